//! Dead letters in queues.
//!
//! Who looks at a message has it in hand, and puts it back at the end: meanwhile nobody else sees it. So one channel at a
//! time may look, and what it has in hand returns when it is closed, also by a crash. The broker counts how often a message
//! was put back, and newer ones drop it at a limit; a message is replaced by a copy of itself before.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::DateTime;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ErrorKind};

use super::super::dead_letters::{DeadLetterError, Decision};
use super::topology::{dead_letters_of, queue_of, text};
use super::{Broker, CLOSED, FIRST_PAUSE, Failure, confirmed, publish, sleep};
use crate::contract::DeadLetter;

/// How many messages of a queue are looked at.
const LOOKED_AT: usize = 1_000;
/// How often a message may be put back before a copy replaces it. RabbitMQ 4 drops it after 20 times.
const WORN: i64 = 10;
/// The queue whose only consumer may look.
const TURN: &str = "shop.dead_letters";
/// How long a turn may be waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The answers that another one has its turn, or has just ended it.
const TAKEN: [u16; 2] = [403, 404];

/// The header of how often a message became a dead letter.
pub(super) const ATTEMPTS: &str = "x-attempts";
/// The header of why it did.
pub(super) const REASON: &str = "x-reason";

/// The turn to look at dead letters; it ends with this.
struct Turn {
    channel: Channel,
    _holder: lapin::Consumer,
}

/// A queue of dead letters, and the messages in hand.
struct Queue<'a> {
    turn: &'a Turn,
    name: String,
    /// How many messages it had at first.
    depth: u32,
    last: Option<Delivery>,
}

impl From<Failure> for DeadLetterError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => Self::Store(error),
            failure => Self::Broker(failure.to_string()),
        }
    }
}

impl Broker {
    /// The first dead letters of each consumer.
    pub(in crate::events) async fn letters(&self) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let turn = self.turn().await?;
        let mut letters = Vec::new();
        for consumer in &self.0.consumers {
            letters.extend(self.letters_of(&turn, consumer).await?);
        }
        turn.end().await?;
        Ok(letters)
    }

    async fn letters_of(&self, turn: &Turn, consumer: &str) -> Result<Vec<DeadLetter>, Failure> {
        let Some(mut queue) = self.queue(turn, consumer).await? else { return Ok(Vec::new()) };
        let mut letters = Vec::new();
        while letters.len() < LOOKED_AT
            && let Some(message) = queue.take().await?
        {
            letters.push(letter(consumer, &message));
            queue.keep(message).await?;
        }
        queue.put_back().await?;
        Ok(letters)
    }

    /// Carries out `decision` on the dead letters with these `ids`, or on all; returns on how many. The ids of those that
    /// were named come into `done`.
    pub(in crate::events) async fn decide(
        &self,
        decision: Decision,
        ids: Option<&[String]>,
        done: &mut BTreeSet<String>,
    ) -> Result<u64, DeadLetterError> {
        let turn = self.turn().await?;
        let mut count = 0;
        for consumer in &self.0.consumers {
            let is_of = |id: &String| id.split(':').next() == Some(consumer);
            let is_meant = ids.is_none_or(|ids| ids.iter().any(is_of));
            if is_meant && let Some(queue) = self.queue(&turn, consumer).await? {
                count += decide(queue, (decision, ids), consumer, done).await?;
            }
        }
        turn.end().await?;
        Ok(count)
    }

    /// The dead letters of `consumer`, unless it never ran.
    async fn queue<'a>(
        &self,
        turn: &'a Turn,
        consumer: &str,
    ) -> Result<Option<Queue<'a>>, Failure> {
        let name = dead_letters_of(&queue_of(consumer));
        let depth = self.depth(&name).await?;
        Ok(depth.map(|depth| Queue { turn, name, depth, last: None }))
    }

    /// Waits for the turn to look at dead letters.
    async fn turn(&self) -> Result<Turn, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            let channel = self.channel().await?;
            match hold(&channel).await {
                Ok(holder) => return Ok(Turn { channel, _holder: holder }),
                Err(error) if is_taken(&error) && Instant::now() < end => sleep(FIRST_PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Becomes the only consumer of the queue of turns, which is deleted after the last one.
async fn hold(channel: &Channel) -> lapin::Result<lapin::Consumer> {
    let options = QueueDeclareOptions { durable: true, auto_delete: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("classic"));
    channel.queue_declare(TURN.into(), options, arguments).await?;
    let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
    channel.basic_consume(TURN.into(), "".into(), options, FieldTable::default()).await
}

fn is_taken(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(answer) if TAKEN.contains(&answer.get_id()))
}

impl Turn {
    async fn end(self) -> Result<(), DeadLetterError> {
        Ok(self.channel.close(CLOSED, "".into()).await.map_err(Failure::from)?)
    }
}

impl Queue<'_> {
    async fn take(&self) -> Result<Option<Delivery>, Failure> {
        let options = BasicGetOptions::default();
        let got = self.turn.channel.basic_get(self.name.as_str().into(), options).await?;
        Ok(got.map(|message| message.delivery))
    }

    /// Sends a copy of `message` to the queue `to`. The message itself goes when the broker has the copy.
    async fn send(&self, message: &Delivery, to: &str) -> Result<(), Failure> {
        let mut headers = FieldTable::default();
        for (name, value) in message.properties.headers().iter().flat_map(FieldTable::inner) {
            if name.as_str() != "x-delivery-count" {
                headers.insert(name.clone(), value.clone());
            }
        }
        let properties = message.properties.clone().with_delivery_mode(2).with_headers(headers);
        let sent = publish(&self.turn.channel, ("", to), &message.data, properties).await?;
        if !confirmed(sent).await? {
            return Err(Failure::NoQueue(to.to_owned()));
        }
        Ok(message.ack(BasicAckOptions::default()).await.map(drop)?)
    }

    /// Keeps `message` in hand until the end, or replaces it if it was put back too often.
    async fn keep(&mut self, message: Delivery) -> Result<(), Failure> {
        match number(&message, "x-delivery-count") {
            Some(worn) if worn >= WORN => self.send(&message, &self.name).await?,
            _ => self.last = Some(message),
        }
        Ok(())
    }

    /// Puts back what is in hand, in its order.
    async fn put_back(self) -> Result<(), Failure> {
        let Some(last) = self.last else { return Ok(()) };
        let options = BasicNackOptions { multiple: true, requeue: true };
        Ok(last.nack(options).await.map(drop)?)
    }
}

/// Carries out a decision on the dead letters of `consumer` that are in `queue`; returns on how many.
async fn decide(
    mut queue: Queue<'_>,
    (decision, ids): (Decision, Option<&[String]>),
    consumer: &str,
    done: &mut BTreeSet<String>,
) -> Result<u64, Failure> {
    let (home, mut count, mut others) = (queue_of(consumer), 0, 0);
    // One that is redriven may come back at once.
    for _ in 0..queue.depth {
        if others == LOOKED_AT {
            break;
        }
        let Some(message) = queue.take().await? else { break };
        let named = ids.map(|ids| (ids, letter(consumer, &message).id));
        if named.as_ref().is_some_and(|(ids, id)| !ids.contains(id)) {
            others += 1;
            queue.keep(message).await?;
            continue;
        }
        match decision {
            Decision::Redrive => queue.send(&message, &home).await?,
            Decision::Drop => drop(message.ack(BasicAckOptions::default()).await?),
        }
        count += 1;
        done.extend(named.map(|(_, id)| id));
    }
    queue.put_back().await?;
    Ok(count)
}

/// The dead letter that `message` of `consumer` is.
fn letter(consumer: &str, message: &Delivery) -> DeadLetter {
    let reason = header(message, REASON).and_then(AMQPValue::as_long_string);
    let reason = reason.map_or_else(
        || "the broker gave it up".to_owned(),
        |reason| String::from_utf8_lossy(reason.as_bytes()).into_owned(),
    );
    let seconds = message.properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
    let at = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0)).unwrap_or_default();
    let attempts = number(message, ATTEMPTS).unwrap_or(1);
    DeadLetter::new(consumer, &message.data, reason, (attempts, at))
}

fn header<'a>(message: &'a Delivery, name: &str) -> Option<&'a AMQPValue> {
    message.properties.headers().as_ref()?.inner().get(name)
}

/// The number in the header `name`.
pub(super) fn number(message: &Delivery, name: &str) -> Option<i64> {
    match *header(message, name)? {
        AMQPValue::ShortShortInt(number) => Some(number.into()),
        AMQPValue::ShortShortUInt(number) => Some(number.into()),
        AMQPValue::ShortInt(number) => Some(number.into()),
        AMQPValue::ShortUInt(number) => Some(number.into()),
        AMQPValue::LongInt(number) => Some(number.into()),
        AMQPValue::LongUInt(number) => Some(number.into()),
        AMQPValue::LongLongInt(number) => Some(number),
        _ => None,
    }
}
