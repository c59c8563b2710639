//! `app events dlq`

use super::{load, say};
use crate::cli::{DlqAction, Global, Which};
use crate::contract::DeadLetter;
use crate::node::{self, Decision, Failure, Selection};
use crate::telemetry;

/// How many are read at once.
const PAGE: usize = 1_000;
const COLUMNS: [&str; 6] = ["ID", "TYPE", "SUBJECT", "WHEN", "ATTEMPTS", "REASON"];

/// `app events dlq`
///
/// # Errors
/// See [`node::find_dead_letters`] and [`node::decide`].
pub fn dead_letters(global: &Global, action: DlqAction) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    // The audit log has decisions.
    telemetry::start(&settings.log);
    actix_rt::System::new().block_on(async {
        let roles = global.roles();
        let letters = node::find_dead_letters((&settings, &effective), &roles).await?;
        let decide = async |decision, which: &Which| {
            let selection = if which.all { Selection::All } else { Selection::Ids(&which.ids) };
            node::decide(&letters, decision, selection).await
        };
        match action {
            DlqAction::List => {
                let mut found = letters.list("", PAGE).await?;
                if found.is_empty() {
                    return say("there are no dead letters\n");
                }
                say(&table(&found, true))?;
                while let Some(last) = found.last().filter(|_| found.len() == PAGE) {
                    found = letters.list(&last.id, PAGE).await?;
                    say(&table(&found, false))?;
                }
                Ok(())
            }
            DlqAction::Redrive { which } => {
                let count = decide(Decision::Redrive, &which).await?;
                say(&format!("{count} dead letters go to their consumers again\n"))
            }
            DlqAction::Drop { which } => {
                let count = decide(Decision::Drop, &which).await?;
                say(&format!("dropped {count} dead letters\n"))
            }
        }
    })
}

/// The lines of `letters`, whose columns are as wide as they need.
fn table(letters: &[DeadLetter], has_head: bool) -> String {
    let head = COLUMNS.map(str::to_owned);
    let rows = letters.iter().map(row);
    let rows = has_head.then_some(head).into_iter().chain(rows).collect::<Vec<_>>();
    let mut widths = [0; COLUMNS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    // The last one needs no room behind it.
    widths[COLUMNS.len() - 1] = 0;
    let line = |row: &[String; COLUMNS.len()]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ") + "\n"
    };
    rows.iter().map(line).collect()
}

fn row(letter: &DeadLetter) -> [String; COLUMNS.len()] {
    let shown = |text: &Option<String>| text.as_deref().map_or_else(|| "-".into(), plain);
    [
        plain(&letter.id),
        shown(&letter.kind),
        shown(&letter.subject),
        letter.created_at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        letter.attempts.to_string(),
        format!("{}{}", if letter.redriven { "(redriven) " } else { "" }, plain(&letter.reason)),
    ]
}

/// `text` without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
