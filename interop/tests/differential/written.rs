//! Scripts for each case that matters, by hand.

use std::time::Duration;

use crate::batch::{Batch, Damage, Id, Stamp};
use crate::script::{Script, Step, Target, Topic, produce, produce_in};

/// Attribute bits of a batch.
pub(crate) const GZIP: i16 = 1;
pub(crate) const LOG_APPEND_TIME: i16 = 8;
const TRANSACTIONAL: i16 = 16;
const CONTROL: i16 = 32;

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn all() -> Vec<Script> {
    let mut all = sequences();
    all.extend(epochs());
    all.extend(wraps());
    all.extend(damages());
    all.extend(targets());
    all.extend(settings());
    all.extend(ids());
    all
}

fn plain(name: &str, steps: Vec<Step>) -> Script {
    Script::new(name, Topic::Plain, steps)
}

fn of(epoch: i16, sequence: i32, records: usize) -> Step {
    produce(Batch::of(epoch, sequence, records))
}

fn sequences() -> Vec<Script> {
    let five = |from: i32| (0..5).map(move |n| of(0, from + n, 1));
    let then = |first: Vec<Step>, second: Step| {
        let mut steps = first;
        steps.push(second);
        steps
    };
    let mut all = vec![
        plain("in order", vec![of(0, 0, 3), of(0, 3, 2), of(0, 5, 1)]),
        plain("a duplicate of the last", vec![of(0, 0, 3), of(0, 0, 3)]),
        plain("a gap", vec![of(0, 0, 1), of(0, 2, 1)]),
        plain("a gap of a thousand", vec![of(0, 0, 1), of(0, 1001, 1)]),
        plain(
            "a gap, then what was missing",
            vec![of(0, 0, 1), of(0, 2, 1), of(0, 1, 1), of(0, 2, 1)],
        ),
        plain("an overlap at the front", vec![of(0, 0, 3), of(0, 2, 3)]),
        plain("the same start, fewer records", vec![of(0, 0, 3), of(0, 0, 2)]),
        plain("the same start, more records", vec![of(0, 0, 3), of(0, 0, 4)]),
        plain("the same end, another start", vec![of(0, 0, 3), of(0, 1, 2)]),
        plain("two batches retried as one", vec![of(0, 0, 1), of(0, 1, 1), of(0, 0, 2)]),
        plain("one batch retried as two", vec![of(0, 0, 2), of(0, 0, 1), of(0, 1, 1)]),
        plain("any first sequence is taken", vec![of(0, 77, 2), of(0, 79, 1)]),
        plain("zero again behind another first", vec![of(0, 77, 2), of(0, 0, 1)]),
        plain("zero again", vec![of(0, 0, 1), of(0, 1, 1), of(0, 0, 1)]),
        plain("a sequence below the memory", then(five(0).chain(five(5)).collect(), of(0, 2, 1))),
        plain("a negative sequence", vec![of(0, -1, 1)]),
        plain("a very negative sequence", vec![of(0, i32::MIN, 1)]),
        plain(
            "two producers do not meet",
            vec![of(0, 0, 1), produce(Batch::of(0, 0, 1).by(Id::Own(1))), of(0, 1, 1), of(0, 0, 1)],
        ),
        plain(
            "a plain batch between",
            vec![of(0, 0, 1), produce(Batch::plain(2)), of(0, 1, 1), of(0, 0, 1)],
        ),
        plain("no producer id but a sequence", vec![produce(Batch::of(0, 5, 1).by(Id::Fixed(-1)))]),
        plain("a producer id below none", vec![produce(Batch::of(0, 0, 1).by(Id::Fixed(-2)))]),
        plain("an id that nobody gave", vec![produce(Batch::of(0, 0, 1).by(Id::Fixed(1 << 40)))]),
        plain(
            "an id that nobody gave, later",
            vec![produce(Batch::of(4, 9, 1).by(Id::Fixed(1 << 41)))],
        ),
    ];
    for back in 0..7 {
        let steps = then((0..7).map(|n| of(0, n, 1)).collect(), of(0, 6 - back, 1));
        all.push(plain(&format!("a duplicate {back} batches back"), steps));
        let steps = then((0..7).map(|n| of(0, n * 3, 3)).collect(), of(0, (6 - back) * 3, 3));
        all.push(plain(&format!("a duplicate of three, {back} batches back"), steps));
    }
    all
}

fn epochs() -> Vec<Script> {
    vec![
        plain("a new epoch at zero", vec![of(0, 0, 2), of(1, 0, 2), of(1, 2, 1)]),
        plain("a new epoch not at zero", vec![of(0, 0, 2), of(1, 2, 2)]),
        plain("a new epoch not at zero, then at zero", vec![of(0, 0, 2), of(1, 2, 2), of(1, 0, 1)]),
        plain("an epoch skipped", vec![of(0, 0, 2), of(7, 0, 2)]),
        plain("an old epoch", vec![of(3, 0, 2), of(2, 0, 2)]),
        plain("an old epoch goes on", vec![of(0, 0, 2), of(1, 0, 2), of(0, 2, 1)]),
        plain("an old duplicate of an old epoch", vec![of(0, 0, 2), of(1, 0, 2), of(0, 0, 2)]),
        plain("the same batch under a new epoch", vec![of(0, 0, 2), of(1, 0, 2), of(1, 0, 2)]),
        plain(
            "a duplicate across a bump",
            vec![of(0, 0, 1), of(0, 1, 1), of(1, 0, 1), of(1, 1, 1), of(1, 0, 1)],
        ),
        plain("a negative epoch", vec![of(-1, 0, 1)]),
        plain("a negative epoch behind a good one", vec![of(0, 0, 1), of(-1, 1, 1)]),
        plain("the last epoch", vec![of(i16::MAX, 0, 1), of(i16::MAX, 1, 1), of(0, 2, 1)]),
        plain(
            "a first batch of any epoch and sequence",
            vec![of(9, 40, 1), of(9, 41, 1), of(8, 42, 1)],
        ),
    ]
}

fn wraps() -> Vec<Script> {
    let max = i32::MAX;
    vec![
        plain(
            "the sequence ends at its largest",
            vec![of(0, max - 1, 2), of(0, 0, 1), of(0, 1, 1)],
        ),
        plain("a batch across the wrap", vec![of(0, max - 1, 4), of(0, 2, 1), of(0, 3, 1)]),
        plain(
            "a duplicate across the wrap",
            vec![of(0, max - 1, 4), of(0, max - 1, 4), of(0, 2, 1)],
        ),
        plain("a duplicate before the wrap", vec![of(0, max, 1), of(0, 0, 1), of(0, max, 1)]),
        plain("one too many behind the wrap", vec![of(0, max, 1), of(0, 1, 1)]),
        plain("a gap across the wrap", vec![of(0, max - 2, 1), of(0, 0, 1)]),
        plain("the largest sequence again", vec![of(0, max, 1), of(0, max, 1)]),
        plain("a wrap, then a new epoch", vec![of(0, max - 1, 4), of(1, 0, 1), of(1, 1, 1)]),
    ]
}

fn damages() -> Vec<Script> {
    use Damage as D;
    let mut all = Vec::new();
    for (name, damage) in [
        ("a wrong checksum", D::Checksum),
        ("magic 0", D::Magic(0)),
        ("magic 1", D::Magic(1)),
        ("magic 3", D::Magic(3)),
        ("magic 127", D::Magic(127)),
        ("a base offset", D::BaseOffset(5)),
        ("a negative base offset", D::BaseOffset(-1)),
        ("a length one too long", D::Length(1)),
        ("a length one too short", D::Length(-1)),
        ("a length of far too much", D::Length(1 << 20)),
        ("a length below the header", D::Length(-60)),
        ("a negative length", D::Length(i32::MIN / 2)),
        ("no records stated", D::Count(0)),
        ("a negative count", D::Count(-1)),
        ("one record too few stated", D::Count(1)),
        ("one record too many stated", D::Count(3)),
        ("a very large count", D::Count(i32::MAX)),
        ("a last offset delta too large", D::LastOffsetDelta(2)),
        ("a last offset delta too small", D::LastOffsetDelta(0)),
        ("a negative last offset delta", D::LastOffsetDelta(-1)),
        ("a record delta too large", D::RecordDelta(1)),
        ("a record delta too small", D::RecordDelta(-1)),
        ("a record one byte too long", D::RecordLength(1)),
        ("a record one byte too short", D::RecordLength(-1)),
        ("a record of far too much", D::RecordLength(1 << 30)),
        ("one byte cut off", D::Cut(1)),
        ("cut in the header", D::Cut(60)),
        ("cut to a few bytes", D::Cut(75)),
        ("bytes behind the batch", D::Trailing(5)),
        ("a header's worth behind the batch", D::Trailing(70)),
        ("bytes behind the last record", D::Inside(3)),
        ("two batches", D::Twice),
        ("a maximal timestamp that is wrong", D::MaxTimestamp(12)),
    ] {
        let sound = || of(0, 0, 2);
        let bad = || produce(Batch::of(0, 2, 2).damaged(damage));
        all.push(plain(&format!("{name}, then sound"), vec![sound(), bad(), of(0, 2, 2)]));
        all.push(plain(
            &format!("{name}, no producer id"),
            vec![produce(Batch::plain(2).damaged(damage))],
        ));
    }
    for (name, bits) in
        [("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4), ("codec 5", 5), ("codec 7", 7)]
    {
        let garbage = Batch::of(0, 0, 2).attributes(bits).damaged(D::Garbage);
        all.push(plain(&format!("garbage as {name}"), vec![produce(garbage), of(0, 0, 1)]));
    }
    let zstd = Batch::of(0, 0, 2).attributes(4).damaged(D::Garbage);
    all.push(plain("zstd before version 7", vec![produce_in(6, zstd), of(0, 0, 1)]));
    all.push(plain("unused attribute bits", vec![produce(Batch::of(0, 0, 1).attributes(128))]));
    all.push(plain("a delete horizon", vec![produce(Batch::of(0, 0, 1).attributes(64))]));
    all.push(plain(
        "log append time claimed",
        vec![produce(Batch::of(0, 0, 2).attributes(LOG_APPEND_TIME)), of(0, 0, 1)],
    ));
    all.push(plain(
        "a control batch",
        vec![produce(Batch::of(0, 0, 1).attributes(CONTROL)), of(0, 0, 1)],
    ));
    all.push(plain(
        "a control batch without a producer",
        vec![produce(Batch::plain(1).attributes(CONTROL))],
    ));
    all.push(plain(
        "a transactional control batch",
        vec![produce(Batch::of(0, 0, 1).attributes(CONTROL | TRANSACTIONAL)), of(0, 0, 1)],
    ));
    all.push(plain("null records", vec![Step::NoRecords { null: true }]));
    all.push(plain("no bytes of records", vec![Step::NoRecords { null: false }]));
    all
}

fn targets() -> Vec<Script> {
    let mut all = Vec::new();
    for version in 3..=13 {
        let steps = [0, 0, 1, 3].map(|sequence| produce_in(version, Batch::of(0, sequence, 1)));
        all.push(plain(&format!("Produce {version}"), steps.to_vec()));
    }
    for (name, target) in [
        ("no such partition", Target::NoSuchPartition),
        ("no such topic", Target::NoSuchTopic),
        ("no such topic id", Target::NoSuchId),
        ("the zero topic id", Target::ZeroId),
        ("one partition twice", Target::Twice),
    ] {
        for version in [7, 12, 13] {
            let ids = matches!(target, Target::NoSuchId | Target::ZeroId);
            let names = matches!(target, Target::NoSuchTopic);
            if (ids && version < 13) || (names && version == 13) {
                continue;
            }
            for acks in [-1, 0, 1] {
                let batch = Batch::of(0, 0, 1);
                let steps = vec![Step::Produce { version, acks, target, batch }, of(0, 0, 1)];
                all.push(plain(&format!("{name}, version {version}, acks {acks}"), steps));
            }
        }
    }
    for acks in [0, 1, 2, -2, i16::MAX] {
        let step = |sequence| {
            let batch = Batch::of(0, sequence, 1);
            Step::Produce { version: 13, acks, target: Target::Own, batch }
        };
        all.push(plain(&format!("acks {acks}"), vec![step(0), step(1), step(1), step(7)]));
    }
    all
}

fn settings() -> Vec<Script> {
    let mut all = Vec::new();
    let mut add = |name: &str, topic, steps| all.push(Script::new(name, topic, steps));
    let sized = |sequence, len| produce(Batch::of(0, sequence, 1).values(len));
    add("too large", Topic::Small, vec![sized(0, 500), sized(0, 10)]);
    for len in 225..235 {
        add(&format!("a value of {len} bytes"), Topic::Small, vec![sized(0, len)]);
    }
    add("too large behind others", Topic::Small, vec![sized(0, 10), sized(1, 400), sized(1, 10)]);
    add("a duplicate that is too large", Topic::Small, vec![sized(0, 10), sized(0, 400)]);
    let many = produce(Batch::of(0, 0, 40));
    add("many small records are too large", Topic::Small, vec![many, of(0, 0, 1)]);
    add(
        "no key where keys are needed",
        Topic::Compacted,
        vec![of(0, 0, 2), produce(Batch::of(0, 0, 2).keyed())],
    );
    add("a key where keys are needed", Topic::Compacted, vec![produce(Batch::of(0, 0, 1).keyed())]);
    for acks in [-1, 0, 1] {
        let steps = [0, 0, 1].map(|sequence| Step::Produce {
            version: 13,
            acks,
            target: Target::Own,
            batch: Batch::of(0, sequence, 1),
        });
        add(&format!("two in sync are not there, acks {acks}"), Topic::TwoInSync, steps.to_vec());
    }
    add("times by the broker", Topic::LogAppendTime, vec![of(0, 0, 1), of(0, 0, 1), of(0, 1, 1)]);
    let claimed = produce(Batch::of(0, 0, 1).attributes(LOG_APPEND_TIME));
    add("times by the broker, claimed", Topic::LogAppendTime, vec![claimed, of(0, 0, 1)]);
    let ahead = produce(Batch::of(0, 0, 1).stamped(Stamp::Ahead(100 * HOUR)));
    add("times by the broker, whatever is said", Topic::LogAppendTime, vec![ahead.clone()]);
    add("recompressed", Topic::StoredAsGzip, vec![of(0, 0, 3), of(0, 0, 3), of(0, 3, 1)]);
    let garbage = Batch::of(0, 0, 1).attributes(GZIP).damaged(Damage::Garbage);
    add("garbage, not to be recompressed", Topic::StoredAsGzip, vec![produce(garbage)]);
    for (name, topic) in [("limited", Topic::NoFuture), ("plain", Topic::Plain)] {
        for (when, stamp) in [
            ("an hour ago", Stamp::Ago(HOUR)),
            ("a year ago", Stamp::Ago(365 * 24 * HOUR)),
            ("in two hours", Stamp::Ahead(2 * HOUR)),
            ("in a minute and a half", Stamp::Ahead(Duration::from_secs(90))),
            ("never", Stamp::None),
        ] {
            let steps = vec![produce(Batch::of(0, 0, 3).stamped(stamp)), of(0, 0, 1)];
            add(&format!("{when}, {name}"), topic, steps);
        }
    }
    all
}

fn ids() -> Vec<Script> {
    let init = |version, id, epoch| Step::Init { version, id, epoch, timeout_ms: 60_000 };
    let mut all = Vec::new();
    for version in 0..=5 {
        all.push(plain(
            &format!("InitProducerId {version}"),
            vec![init(version, Id::Fixed(-1), -1)],
        ));
    }
    for (name, id, epoch) in [
        ("an id of its own", Id::Own(0), 0),
        ("an id of its own, a later epoch", Id::Own(0), 7),
        ("an id without an epoch", Id::Own(0), -1),
        ("an epoch without an id", Id::Fixed(-1), 3),
        ("an id that nobody gave", Id::Fixed(1 << 42), 0),
        ("the last epoch", Id::Own(0), i16::MAX),
    ] {
        let steps = vec![of(0, 0, 1), init(5, id, epoch), of(0, 1, 1), of(1, 0, 1)];
        all.push(plain(&format!("InitProducerId with {name}"), steps));
    }
    for timeout_ms in [0, -1, i32::MAX] {
        let step = Step::Init { version: 5, id: Id::Fixed(-1), epoch: -1, timeout_ms };
        all.push(plain(&format!("InitProducerId with a timeout of {timeout_ms} ms"), vec![step]));
    }
    all
}
