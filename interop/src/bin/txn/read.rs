//! The topics, read as committed, by the machine behind `tail`.

use std::collections::{BTreeMap, BTreeSet};

use sordini::fetch::{Event, Isolation, Notice, Plan, Settings, Tail};

use crate::api::say;
use crate::args::Args;
use crate::failed::Failed;

pub(crate) fn settings(args: &Args) -> Result<Settings, Failed> {
    let mut settings = Settings::default();
    settings.set("bootstrap.servers", args.get("bootstrap")?).map_err(Failed::other)?;
    settings.isolation = Isolation::ReadCommitted;
    Ok(settings)
}

/// In which partitions each of these numbers is.
pub(crate) async fn find(
    args: &Args,
    numbers: &BTreeSet<u64>,
) -> Result<BTreeMap<u64, BTreeSet<i32>>, Failed> {
    let mut plan = Plan::new(args.get("topic")?);
    plan.stop_at_end = true;
    let mut tail = Tail::new(plan, settings(args)?).map_err(Failed::other)?;
    let mut found: BTreeMap<u64, BTreeSet<i32>> =
        numbers.iter().map(|number| (*number, BTreeSet::new())).collect();
    while let Some(event) = tail.next().await.map_err(Failed::other)? {
        match event {
            Event::Records { partition, records } => {
                for record in records {
                    let value = record.value.unwrap_or_default();
                    let number = std::str::from_utf8(&value).ok().and_then(|it| it.parse().ok());
                    let number =
                        number.ok_or_else(|| Failed::Broken(format!("whose is {value:?}?")))?;
                    let there = found.get_mut(&number);
                    if there.is_some_and(|there| !there.insert(partition)) {
                        return Err(Failed::Broken(format!("{number} is twice in {partition}")));
                    }
                }
            }
            Event::Notice(Notice::Trouble(cause)) => say(&cause),
            _ => {}
        }
    }
    Ok(found)
}
