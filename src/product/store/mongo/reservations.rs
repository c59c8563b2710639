//! Reservations in MongoDB, without transactions of several documents, which a standalone server does not have.
//!
//! A reservation is a document of its own. A step of it (reserve, commit, give back) is first written there as a phase
//! that is *under way*; then each line is moved, one conditional update of its product at a time; then the phase ends.
//! Any process may go on with a phase where another one has stopped, and does so before it begins a step of its own; the
//! sweep finds what nobody asks for any more.
//!
//! A line is moved in three updates: (1) the product gets its new stock, a note of the move, and a number one higher,
//! if it has no note and the number that was read; (2) the line in the reservation gets its new place and a number one
//! higher, if it has the number that the note says; (3) the note is removed. Who finds a note does (2) and (3) first.
//!
//! Why no move happens twice: (1) is made from the product and *then* the reservation as they were read, and fails if the
//! product was moved in between. If the move was done before the product was read, its note was there, or (2) was done,
//! and the reservation shows it. Why none happens after its phase: a phase ends only after a move of each of its lines,
//! which raises the number of its product, so that an older (1) fails. A refusal, too, moves lines that were never
//! reserved, without changing any stock. Why nothing is oversold: (1) compares the stock with what was read.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::{Collection, Database, IndexModel};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use uuid::Uuid;

use super::super::super::reservations::{HeldLine, Hold, Refusal, State, Step, Wanted, WantedLine};
use super::super::super::supply::{Pieces, Supply};
use super::super::{decode_price, decode_time};
use super::Store;
use super::stock::follow;
use crate::contract::{Stock, Timestamp, Version, now};
use crate::error::Shortage;
use crate::storage::copy::BATCH;
use crate::storage::{Access, StoreError, late};

/// How long a phase may be under way before the sweep goes on with it.
const ABANDONED: Duration = Duration::from_secs(2);
/// How many reservations a sweep looks at.
const SWEEP: i64 = 20;
/// The longest pause before an update is tried again after another one, in milliseconds.
const PAUSE: u64 = 8;

/// The collections that reservations are about.
#[derive(Clone, Debug)]
pub(super) struct Reservations {
    holds: Collection<HoldDocument>,
    products: Collection<ProductDocument>,
}

/// A reservation as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct HoldDocument {
    #[serde(rename = "_id")]
    id: String,
    /// A random number, because an id that was refused may be used again.
    life: i64,
    phase: Phase,
    expires_at: i64,
    changed_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// The reservation that has its pieces, and the random number of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_to: Option<(String, i64)>,
    lines: Vec<LineDocument>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LineDocument {
    product: ObjectId,
    quantity: i64,
    name: String,
    price: i64,
    counted: bool,
    place: Place,
    /// How often it was moved.
    moves: i64,
}

/// Where the pieces of a line are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    /// Not reserved yet.
    New,
    Held,
    Sold,
    /// Given back, or never reserved.
    Back,
}

/// What a reservation is, or is about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Phase {
    /// Settled.
    Held,
    Committed,
    Released,
    Lapsed,
    Moved,
    /// Under way.
    Reserving,
    /// It waits for the lines of its source.
    Taking,
    /// Its pieces were sold for its source.
    Reholding,
    Committing,
    Releasing,
    Lapsing,
    /// There was too little. In the end it is deleted.
    Refusing,
}

/// The phases that are under way.
const UNDER_WAY: [Phase; 7] = [
    Phase::Reserving,
    Phase::Taking,
    Phase::Reholding,
    Phase::Committing,
    Phase::Releasing,
    Phase::Lapsing,
    Phase::Refusing,
];

/// What to do with a reservation next.
enum Next {
    /// Nothing.
    Settled(State),
    /// Take the lines of its source.
    Take,
    /// Move the lines to a place; then it is in a phase, or deleted.
    Move(Place, Option<Phase>),
}

impl Phase {
    fn next(self) -> Next {
        match self {
            Self::Held => Next::Settled(State::Held),
            Self::Committed => Next::Settled(State::Committed),
            Self::Released => Next::Settled(State::Released),
            Self::Lapsed => Next::Settled(State::Lapsed),
            Self::Moved => Next::Settled(State::Moved),
            Self::Taking => Next::Take,
            Self::Reserving | Self::Reholding => Next::Move(Place::Held, Some(Self::Held)),
            Self::Committing => Next::Move(Place::Sold, Some(Self::Committed)),
            Self::Releasing => Next::Move(Place::Back, Some(Self::Released)),
            Self::Lapsing => Next::Move(Place::Back, Some(Self::Lapsed)),
            Self::Refusing => Next::Move(Place::Back, None),
        }
    }

    fn bson(self) -> Bson {
        // A unit variant is a text.
        bson::serialize_to_bson(&self).unwrap_or(Bson::Null)
    }
}

/// What reservations are about, of the document of a product.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ProductDocument {
    #[serde(rename = "_id")]
    id: ObjectId,
    name: String,
    price: i64,
    on_hand: Option<i64>,
    #[serde(default)]
    reserved: i64,
    deleted_at: Option<i64>,
    /// The move that is under way.
    #[serde(rename = "move")]
    note: Option<Note>,
    /// How often it was moved.
    #[serde(default)]
    moves: i64,
}

/// A line that is being moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    reservation: String,
    life: i64,
    line: i64,
    /// The number of the move among those of the line.
    number: i64,
    place: Place,
    counted: bool,
}

impl Store {
    pub(in super::super) async fn reserve(
        &self,
        id: Uuid,
        wanted: Wanted,
        expires_at: Timestamp,
    ) -> Result<Step<Result<Hold, Refusal>>, StoreError> {
        self.steps(async |steps| steps.reserve(id, &wanted, expires_at).await).await
    }

    pub(in super::super) async fn commit(
        &self,
        id: Uuid,
    ) -> Result<Step<Result<Hold, Refusal>>, StoreError> {
        self.steps(async |steps| steps.commit(id).await).await
    }

    pub(in super::super) async fn release(&self, id: Uuid) -> Result<Step<()>, StoreError> {
        self.steps(async |steps| steps.release(id).await).await
    }

    pub(in super::super) async fn sweep(
        &self,
        forgotten: Timestamp,
    ) -> Result<Step<bool>, StoreError> {
        self.steps(async |steps| steps.sweep(forgotten).await).await
    }

    /// Whether [`Store::sweep`] has anything to do.
    pub(in super::super) async fn is_due(&self, forgotten: Timestamp) -> Result<bool, StoreError> {
        let due = self.reservations.holds.find_one(due(forgotten));
        self.call(Access::Read, async |time| Ok(due.max_time(time).await?.is_some())).await
    }

    pub(in super::super) async fn count_holds(&self) -> Result<u64, StoreError> {
        let count = self.reservations.holds.count_documents(doc! {});
        self.call(Access::Read, async |time| Ok(count.max_time(time).await?)).await
    }

    pub(in super::super) async fn holds_behind(
        &self,
        last: String,
    ) -> Result<Vec<Hold>, StoreError> {
        self.holds(doc! { "_id": { "$gt": last } }).await
    }

    pub(in super::super) async fn supplies_behind(
        &self,
        last: String,
    ) -> Result<Vec<Supply>, StoreError> {
        let rows = self.hold_rows(doc! { "_id": { "$gt": last } }).await?;
        rows.into_iter().map(HoldDocument::into_supply).collect()
    }

    pub(in super::super) async fn excess(
        &self,
        products: Vec<ObjectId>,
    ) -> Result<HashMap<ObjectId, i64>, StoreError> {
        let store = self.reservations.clone();
        let phases = UNDER_WAY.into_iter().chain([Phase::Held]).map(Phase::bson);
        let having = doc! {
            "phase": { "$in": phases.collect::<Vec<_>>() }, "lines.product": { "$in": &products },
        };
        // Which products it is about shows only when it has taken the lines.
        let having = doc! { "$or": [having, { "phase": Phase::Taking.bson() }] };
        let that = doc! { "_id": { "$in": &products } };
        let load = async |time| {
            let rows = async || {
                let rows = store.products.find(that.clone()).max_time(time).await?;
                let rows = rows.map_ok(|row| (row.id, row));
                rows.try_collect::<HashMap<_, _>>().await
            };
            let before = rows().await?;
            let holds = store.holds.find(having).max_time(time).await?;
            let holds = holds.try_collect::<Vec<_>>().await?;
            Ok((before, holds, rows().await?))
        };
        let (before, holds, after) = self.call(Access::Read, load).await?;
        let is_taking = holds.iter().any(|hold| hold.phase == Phase::Taking);
        // Each move of a line raises the number, and has a note until the line shows it.
        let is_still = |product: &ObjectId| match (before.get(product), after.get(product)) {
            (Some(before), Some(after)) => {
                !is_taking && before.moves == after.moves && before.note.is_none()
            }
            _ => true,
        };
        let reserved = |product| after.get(product).map_or(0, |row| row.reserved);
        let still = products.iter().filter(|product| is_still(product));
        let mut excess = still.map(|product| (*product, reserved(product))).collect();
        for hold in holds {
            hold.into_supply()?.subtract_from(&mut excess);
        }
        // One that is gone has none.
        let is_gone = |id: &ObjectId| !before.contains_key(id) || !after.contains_key(id);
        excess.iter_mut().filter(|(id, _)| is_gone(id)).for_each(|(_, more)| *more = 0);
        Ok(excess)
    }

    pub(in super::super) async fn holds_among(
        &self,
        ids: Vec<String>,
    ) -> Result<Vec<Hold>, StoreError> {
        self.holds(doc! { "_id": { "$in": ids } }).await
    }

    /// At most [`BATCH`] reservations that pass `filter`, by id.
    async fn hold_rows(&self, filter: Document) -> Result<Vec<HoldDocument>, StoreError> {
        let rows = self.reservations.holds.find(filter).sort(doc! { "_id": 1 });
        let rows = rows.limit(BATCH as i64);
        let load = async |time| Ok(rows.max_time(time).await?.try_collect::<Vec<_>>().await?);
        self.call(Access::Read, load).await
    }

    /// The same, none of which may be under way.
    async fn holds(&self, filter: Document) -> Result<Vec<Hold>, StoreError> {
        let rows = self.hold_rows(filter).await?;
        let hold = |row: HoldDocument| match row.phase.next() {
            Next::Settled(state) => row.into_hold(state),
            Next::Take | Next::Move(..) => {
                let why = format!("the reservation {} is under way; let a shop finish it", row.id);
                Err(StoreError::Failed(why))
            }
        };
        rows.into_iter().map(hold).collect()
    }

    /// Inserts `holds`; those that are there already stay, or `replaces` says that they do not. Returns how many were written.
    pub(in super::super) async fn write_holds(
        &self,
        holds: Vec<Hold>,
        replaces: bool,
    ) -> Result<u64, StoreError> {
        let rows = self.reservations.holds.clone();
        let write = async |_| {
            let mut written = 0;
            for hold in holds {
                let row = HoldDocument::from(hold);
                let that = doc! { "_id": &row.id };
                if replaces || rows.find_one(that.clone()).await?.is_none() {
                    rows.replace_one(that, row).upsert(true).await?;
                    written += 1;
                }
            }
            Ok(written)
        };
        self.call(Access::Write, write).await
    }

    async fn steps<T>(
        &self,
        work: impl AsyncFnOnce(&mut Steps) -> Result<T, StoreError>,
    ) -> Result<Step<T>, StoreError> {
        let work = async |time| {
            let until = Instant::now() + time;
            let store = self.reservations.clone();
            let mut steps = Steps { store, until, shows: false, begun: None };
            match work(&mut steps).await {
                Ok(outcome) => Ok(Step { outcome, shows: steps.shows }),
                // Something was done before.
                Err(StoreError::Unreachable(why) | StoreError::Full(why))
                    if steps.begun.is_some() =>
                {
                    Err(StoreError::Connection(why))
                }
                Err(error) => Err(error),
            }
        };
        self.call(Access::Write, work).await
    }
}

impl Reservations {
    pub(super) fn new(database: &Database) -> Self {
        let holds = database.collection("reservations");
        Self { holds, products: database.collection("products") }
    }

    /// Creates missing indexes.
    pub(super) async fn prepare(&self) -> Result<(), StoreError> {
        let by = |field: &str| IndexModel::builder().keys(doc! { "phase": 1, field: 1 }).build();
        self.holds.create_indexes([by("expires_at"), by("changed_at")]).await?;
        Ok(())
    }
}

/// The steps of one call.
struct Steps {
    store: Reservations,
    until: Instant,
    /// Whether a product came into stock or went out of it, as far as is known.
    shows: bool,
    /// The reservation whose phase this call has begun last.
    begun: Option<String>,
}

impl Steps {
    async fn reserve(
        &mut self,
        id: Uuid,
        wanted: &Wanted,
        expires_at: Timestamp,
    ) -> Result<Result<Hold, Refusal>, StoreError> {
        let mut refused = None;
        loop {
            if let Some(hold) = self.settled(id).await? {
                return Ok(hold.repeat(wanted, now()));
            }
            if let Some(refusal) = refused {
                return Ok(Err(refusal));
            }
            // It is not there yet, or was refused.
            match self.pieces(wanted).await? {
                Ok((phase, source, lines)) => {
                    let new = HoldDocument::new(id, phase, expires_at, source);
                    self.insert(HoldDocument { lines, ..new }).await?;
                }
                // Another call with this id may have taken the pieces since it was looked for.
                Err(refusal) => refused = Some(refusal),
            }
        }
    }

    /// The phase that a reservation of `wanted` begins with, its source and its lines.
    async fn pieces(
        &mut self,
        wanted: &Wanted,
    ) -> Result<Result<(Phase, Option<Uuid>, Vec<LineDocument>), Refusal>, StoreError> {
        let source = match wanted {
            Wanted::Lines(lines) => {
                let lines = self.available(lines).await?;
                return Ok(lines.map(|lines| (Phase::Reserving, None, lines)));
            }
            Wanted::From(source) => *source,
        };
        let state = self.settled(source).await?.map(|hold| hold.state_at(now()));
        Ok(match state {
            Some(State::Held | State::Committed) => Ok((Phase::Taking, Some(source), Vec::new())),
            ended => Err(Refusal::Source(ended)),
        })
    }

    async fn commit(&mut self, id: Uuid) -> Result<Result<Hold, Refusal>, StoreError> {
        loop {
            let Some(hold) = self.settled(id).await? else { return Ok(Err(Refusal::Missing)) };
            match hold.state_at(now()) {
                State::Committed => return Ok(Ok(hold)),
                State::Held => {
                    let in_time = doc! { "expires_at": { "$gt": now().timestamp_micros() } };
                    self.begin(id, Phase::Held, Phase::Committing, in_time).await?;
                }
                ended => return Ok(Err(Refusal::Ended(ended))),
            }
        }
    }

    async fn release(&mut self, id: Uuid) -> Result<(), StoreError> {
        loop {
            match self.settled(id).await?.map(|hold| hold.state) {
                // Its id is used up, too.
                None => {
                    self.insert(HoldDocument::new(id, Phase::Released, now(), None)).await?;
                }
                Some(State::Held) => {
                    self.begin(id, Phase::Held, Phase::Releasing, Document::new()).await?;
                }
                Some(State::Committed) => {
                    self.begin(id, Phase::Committed, Phase::Releasing, Document::new()).await?;
                }
                Some(State::Released | State::Lapsed | State::Moved) => return Ok(()),
            }
        }
    }

    async fn sweep(&mut self, forgotten: Timestamp) -> Result<bool, StoreError> {
        let found = self.store.holds.find(due(forgotten)).limit(SWEEP).max_time(self.left()?);
        let found = found.await?.try_collect::<Vec<_>>().await?;
        // What is under way may still need one that has ended.
        let is_calm = !found.iter().any(|hold| UNDER_WAY.contains(&hold.phase));
        let mut failed = None;
        for hold in &found {
            let swept = match hold.phase.next() {
                Next::Settled(State::Held) | Next::Take | Next::Move(..) => self.finish(hold).await,
                Next::Settled(_) if is_calm => self.delete(hold).await,
                Next::Settled(_) => Ok(()),
            };
            // One that cannot be read holds up none of the others.
            failed = failed.or(swept.err());
        }
        failed.map_or(Ok(found.len() as i64 == SWEEP), Err)
    }

    /// Finishes what is under way of `hold`, and gives back what has expired.
    async fn finish(&mut self, hold: &HoldDocument) -> Result<(), StoreError> {
        let id = Uuid::parse_str(&hold.id).map_err(StoreError::corrupt)?;
        self.settled(id).await.map(drop)
    }

    /// The lines that are `wanted`, if there are enough pieces now.
    async fn available(
        &self,
        wanted: &[WantedLine],
    ) -> Result<Result<Vec<LineDocument>, Refusal>, StoreError> {
        let ids = wanted.iter().map(|line| line.product).collect::<Vec<_>>();
        let live = doc! { "_id": { "$in": ids }, "deleted_at": Bson::Null };
        let found = self.store.products.find(live).max_time(self.left()?);
        let found = found.await?.try_collect::<Vec<_>>().await?;
        let (mut lines, mut unknown, mut short) = (Vec::new(), Vec::new(), Vec::new());
        for &WantedLine { product, quantity } in wanted {
            match found.iter().find(|found| found.id == product) {
                None => unknown.push(product),
                Some(found) => match found.stock().available() {
                    Some(available) if available < quantity => {
                        short.push(Shortage { product_id: product.to_hex(), quantity, available });
                    }
                    _ => lines.push(LineDocument {
                        product,
                        quantity,
                        name: found.name.clone(),
                        price: found.price,
                        counted: false,
                        place: Place::New,
                        moves: 0,
                    }),
                },
            }
        }
        Ok(match (unknown.is_empty(), short.is_empty()) {
            (false, _) => Err(Refusal::Unknown(unknown)),
            (true, false) => Err(Refusal::Short(short)),
            (true, true) => Ok(lines),
        })
    }

    /// The reservation `id` once no step of it is under way; `None` if there is none, or if it was refused.
    async fn settled(&mut self, id: Uuid) -> Result<Option<Hold>, StoreError> {
        loop {
            let Some(hold) = self.find(&id.to_string()).await? else { return Ok(None) };
            if UNDER_WAY.contains(&hold.phase) && self.begun.as_ref() != Some(&hold.id) {
                // What the process that began it has changed is not known here.
                self.shows = true;
            }
            match hold.phase.next() {
                // Nobody is told that it has lapsed before it has: a commit may be on its way.
                Next::Settled(State::Held) if hold.expires_at <= now().timestamp_micros() => {
                    self.begin(id, Phase::Held, Phase::Lapsing, Document::new()).await?;
                }
                Next::Settled(state) => return hold.into_hold(state).map(Some),
                Next::Take => Box::pin(self.take(&hold)).await?,
                Next::Move(place, then) => {
                    match hold.lines.iter().position(|line| line.place != place) {
                        Some(n) => self.advance(&hold, n, place).await?,
                        None => self.end(&hold, then).await?,
                    }
                }
            }
        }
    }

    async fn find(&self, id: &str) -> Result<Option<HoldDocument>, StoreError> {
        Ok(self.store.holds.find_one(doc! { "_id": id }).max_time(self.left()?).await?)
    }

    /// Inserts `hold` unless there is one with its id.
    async fn insert(&mut self, hold: HoldDocument) -> Result<(), StoreError> {
        self.begun = Some(hold.id.clone());
        let that = doc! { "_id": &hold.id };
        let mut new = bson::serialize_to_document(&hold).map_err(StoreError::corrupt)?;
        new.remove("_id");
        let insert = self.store.holds.find_one_and_update(that, doc! { "$setOnInsert": new });
        match insert.upsert(true).max_time(self.left()?).await.map_err(StoreError::from) {
            // Another call inserted it at the same time.
            Ok(_) | Err(StoreError::Duplicate) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Begins a phase, unless the reservation `id` is not in the phase `from` or fails `condition` any more.
    async fn begin(
        &mut self,
        id: Uuid,
        from: Phase,
        to: Phase,
        condition: Document,
    ) -> Result<(), StoreError> {
        let mut that = doc! { "_id": id.to_string(), "phase": from.bson() };
        that.extend(condition);
        self.begun = Some(id.to_string());
        self.change(that, doc! { "phase": to.bson() }).await
    }

    /// Ends the phase of `hold`, unless another call has done so: then it is in the phase `then`, or deleted.
    async fn end(&self, hold: &HoldDocument, then: Option<Phase>) -> Result<(), StoreError> {
        match then {
            Some(phase) => self.change(hold.same(), doc! { "phase": phase.bson() }).await,
            None => self.delete(hold).await,
        }
    }

    /// Deletes `hold`, unless its phase has changed.
    async fn delete(&self, hold: &HoldDocument) -> Result<(), StoreError> {
        let delete = self.store.holds.find_one_and_delete(hold.same());
        Ok(delete.max_time(self.left()?).await.map(drop)?)
    }

    async fn change(&self, that: Document, mut values: Document) -> Result<(), StoreError> {
        values.insert("changed_at", now().timestamp_micros());
        let change = self.store.holds.find_one_and_update(that, doc! { "$set": values });
        Ok(change.max_time(self.left()?).await.map(drop)?)
    }

    /// Gives `hold` the lines of its source, or deletes it if that has none for it.
    async fn take(&mut self, hold: &HoldDocument) -> Result<(), StoreError> {
        let source = hold.source.as_deref().unwrap_or_default();
        let id = Uuid::parse_str(source).map_err(StoreError::corrupt)?;
        self.settled(id).await?;
        let Some(source) = self.find(source).await? else { return self.delete(hold).await };
        let new = (hold.id.clone(), hold.life);
        match source.phase {
            Phase::Moved if source.moved_to.as_ref() == Some(&new) => {
                let mut lines = source.lines;
                lines.iter_mut().for_each(|line| line.moves = 0);
                let lines = bson::serialize_to_bson(&lines).map_err(StoreError::corrupt)?;
                let values = doc! { "lines": lines, "phase": Phase::Reholding.bson() };
                self.change(hold.same(), values).await
            }
            Phase::Held | Phase::Committed => {
                let new = bson::serialize_to_bson(&new).map_err(StoreError::corrupt)?;
                let values = doc! { "phase": Phase::Moved.bson(), "moved_to": new };
                self.change(source.same(), values).await
            }
            // The loop has settled it; now it is under way again.
            phase if UNDER_WAY.contains(&phase) => Ok(()),
            _ => self.delete(hold).await,
        }
    }

    /// Moves line `n` of `hold` to `place`, or finishes another move of its product first.
    async fn advance(
        &mut self,
        hold: &HoldDocument,
        n: usize,
        place: Place,
    ) -> Result<(), StoreError> {
        let id = hold.lines[n].product;
        let that = doc! { "_id": id };
        let product = self.store.products.find_one(that).max_time(self.left()?).await?;
        if let Some(note) = product.as_ref().and_then(|product| product.note.clone()) {
            // What it has changed is not known here.
            self.shows = true;
            return self.note(id, &note).await;
        }
        // After the product: see the head of this module.
        let Some(hold) = self.find(&hold.id).await?.filter(|now| now.is_same(hold, n)) else {
            return Ok(());
        };
        let line = &hold.lines[n];
        let number = line.moves + 1;
        let note = |counted| Note {
            reservation: hold.id.clone(),
            life: hold.life,
            line: n as i64,
            number,
            place,
            counted,
        };
        let Some(product) = product else {
            return match line.place {
                Place::New if place == Place::Held => self.refuse(&hold).await,
                // Nobody deletes products; there is nothing to give back to.
                _ => self.note(id, &note(false)).await,
            };
        };
        let before = product.stock();
        let Some((after, counted)) = line.moved(&product, place) else {
            return self.refuse(&hold).await;
        };
        let note = note(counted);
        if !self.write(&product, before, after, &note).await? {
            // Another move came in between.
            sleep(Duration::from_millis(fastrand::u64(1..=PAUSE))).await;
            return Ok(());
        }
        self.shows |= before.is_in() != after.is_in();
        self.note(id, &note).await
    }

    async fn refuse(&self, hold: &HoldDocument) -> Result<(), StoreError> {
        self.change(hold.same(), doc! { "phase": Phase::Refusing.bson() }).await
    }

    /// The first update of a move; returns whether it was done.
    async fn write(
        &self,
        product: &ProductDocument,
        before: Stock,
        after: Stock,
        note: &Note,
    ) -> Result<bool, StoreError> {
        // Old documents have no such fields.
        let number = |number: i64| match number {
            0 => doc! { "$in": [0_i64, Bson::Null] },
            number => doc! { "$in": [number] },
        };
        let same = doc! {
            "_id": product.id,
            "move": Bson::Null,
            "moves": number(product.moves),
            "on_hand": before.on_hand,
            "reserved": number(before.reserved),
            "deleted_at": product.deleted_at,
        };
        let mut values = doc! {
            "move": bson::serialize_to_bson(note).map_err(StoreError::corrupt)?,
            "moves": product.moves + 1,
            "reserved": after.reserved,
        };
        values.extend(follow(after));
        values.extend(after.on_hand.map(|on_hand| ("on_hand".to_owned(), on_hand.into())));
        let write = self.store.products.find_one_and_update(same, doc! { "$set": values });
        Ok(write.max_time(self.left()?).await?.is_some())
    }

    /// The second and the third update of a move; done again, they change nothing.
    async fn note(&self, product: ObjectId, note: &Note) -> Result<(), StoreError> {
        let field = |name: &str| format!("lines.{}.{name}", note.line);
        let line = doc! {
            "_id": &note.reservation, "life": note.life, field("moves"): note.number - 1,
        };
        let place = bson::serialize_to_bson(&note.place).map_err(StoreError::corrupt)?;
        let moved = doc! {
            field("moves"): note.number, field("place"): place, field("counted"): note.counted,
        };
        let holds = &self.store.holds;
        let update = holds.find_one_and_update(line, doc! { "$set": moved });
        update.max_time(self.left()?).await?;
        let noted = doc! {
            "_id": product,
            "move.reservation": &note.reservation,
            "move.life": note.life,
            "move.line": note.line,
            "move.number": note.number,
        };
        let products = &self.store.products;
        let remove = products.find_one_and_update(noted, doc! { "$unset": { "move": "" } });
        Ok(remove.max_time(self.left()?).await.map(drop)?)
    }

    /// The time that is left.
    fn left(&self) -> Result<Duration, StoreError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { late() } else { Ok(left.max(Duration::from_millis(1))) }
    }
}

/// A filter for the reservations that a sweep has to look at.
fn due(forgotten: Timestamp) -> Document {
    let abandoned = now() - ABANDONED;
    let ended = [Phase::Released, Phase::Lapsed, Phase::Moved].map(Phase::bson).to_vec();
    let changed = |before: Timestamp| doc! { "$lt": before.timestamp_micros() };
    let expired = doc! { "$lte": now().timestamp_micros() };
    doc! { "$or": [
        { "phase": Phase::Held.bson(), "expires_at": expired },
        { "phase": { "$in": UNDER_WAY.map(Phase::bson).to_vec() }, "changed_at": changed(abandoned) },
        { "phase": { "$in": ended }, "changed_at": changed(forgotten) },
    ] }
}

impl HoldDocument {
    fn new(id: Uuid, phase: Phase, expires_at: Timestamp, source: Option<Uuid>) -> Self {
        Self {
            id: id.to_string(),
            life: Version::draw(),
            phase,
            expires_at: expires_at.timestamp_micros(),
            changed_at: now().timestamp_micros(),
            source: source.map(|source| source.to_string()),
            moved_to: None,
            lines: Vec::new(),
        }
    }

    /// A filter for it, in its phase.
    fn same(&self) -> Document {
        doc! { "_id": &self.id, "life": self.life, "phase": self.phase.bson() }
    }

    /// Whether its phase and its line `n` are those of `other`.
    fn is_same(&self, other: &Self, n: usize) -> bool {
        let moves = |hold: &Self| hold.lines.get(n).map(|line| line.moves);
        self.life == other.life && self.phase == other.phase && moves(self) == moves(other)
    }

    fn into_supply(self) -> Result<Supply, StoreError> {
        let pieces = match self.phase.next() {
            Next::Settled(State::Held) if self.expires_at <= now().timestamp_micros() => {
                Pieces::Gone
            }
            Next::Settled(state) => state.into(),
            Next::Take | Next::Move(..) => Pieces::Unsettled,
        };
        let is_over = matches!(self.phase.next(), Next::Settled(state) if state != State::Held);
        let held = self.lines.iter().filter(|line| !is_over && line.place == Place::Held);
        Ok(Supply {
            id: Uuid::parse_str(&self.id).map_err(StoreError::corrupt)?,
            pieces,
            reserved: held.map(|line| (line.product, line.quantity)).collect(),
        })
    }

    fn into_hold(self, state: State) -> Result<Hold, StoreError> {
        let uuid = |text: &str| Uuid::parse_str(text).map_err(StoreError::corrupt);
        let line = |line: LineDocument| {
            let LineDocument { product, quantity, name, price, counted, .. } = line;
            Ok(HeldLine { product, quantity, name, price: decode_price(price)?, counted })
        };
        Ok(Hold {
            id: uuid(&self.id)?,
            state,
            expires_at: decode_time(self.expires_at)?,
            source: self.source.as_deref().map(uuid).transpose()?,
            lines: self.lines.into_iter().map(line).collect::<Result<_, StoreError>>()?,
            changed_at: decode_time(self.changed_at)?,
        })
    }
}

/// A settled one.
impl From<Hold> for HoldDocument {
    fn from(hold: Hold) -> Self {
        let (phase, place) = match hold.state {
            State::Held => (Phase::Held, Place::Held),
            State::Committed => (Phase::Committed, Place::Sold),
            State::Released => (Phase::Released, Place::Back),
            State::Lapsed => (Phase::Lapsed, Place::Back),
            State::Moved => (Phase::Moved, Place::Back),
        };
        let line = |line: HeldLine| {
            let HeldLine { product, quantity, name, price, counted } = line;
            let price = price.minor();
            LineDocument { product, quantity, name, price, counted, place, moves: 0 }
        };
        Self {
            changed_at: hold.changed_at.timestamp_micros(),
            lines: hold.lines.into_iter().map(line).collect(),
            ..Self::new(hold.id, phase, hold.expires_at, hold.source)
        }
    }
}

impl LineDocument {
    /// The stock of `product` after a move to `place`, and whether its pieces are counted; `None` if it has too few.
    fn moved(&self, product: &ProductDocument, place: Place) -> Option<(Stock, bool)> {
        let Stock { on_hand, reserved } = product.stock();
        let quantity = self.quantity;
        // What was sold without being counted does not come back.
        let returned = if self.counted { quantity } else { 0 };
        let (on_hand, reserved) = match (self.place, place) {
            (Place::New, Place::Held) => {
                let is_short = product.stock().available().is_some_and(|left| left < quantity);
                if product.deleted_at.is_some() || is_short {
                    return None;
                }
                (on_hand, reserved + quantity)
            }
            (Place::Held, Place::Sold) => {
                let sold = (on_hand.map(|on_hand| on_hand - quantity), reserved - quantity);
                return Some((Stock { on_hand: sold.0, reserved: sold.1 }, on_hand.is_some()));
            }
            (Place::Held, Place::Back) => (on_hand, reserved - quantity),
            (Place::Sold, Place::Back) => (on_hand.map(|on_hand| on_hand + returned), reserved),
            (Place::Sold, Place::Held) => {
                (on_hand.map(|on_hand| on_hand + returned), reserved + quantity)
            }
            // Nothing was reserved; only the number of the product changes.
            _ => (on_hand, reserved),
        };
        Some((Stock { on_hand, reserved }, false))
    }
}

impl ProductDocument {
    fn stock(&self) -> Stock {
        Stock { on_hand: self.on_hand, reserved: self.reserved }
    }
}
