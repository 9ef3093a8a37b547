//! What a scenario is written with: a plan made by hand, and what came of it.

use sordini_protocol::{ApiKey, ErrorCode};
use sordini_sim::faults::{Fault, Link, PlannedFault, Twist};
use sordini_sim::{Plan, Report, Scenery, TopicPlan, Workload, run};

/// A world in which nothing goes wrong yet: a safe producer sends some 300 records in bursts to
/// one partition, in small batches, for four seconds.
pub(crate) struct Script {
    plan: Plan,
    /// Faults that one node of all is to feel.
    spread: usize,
}

/// One script, on so many nodes.
pub(crate) fn script(nodes: i32) -> Script {
    let settings = [
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("linger.ms", "0"),
        ("batch.size", "300"),
        ("request.timeout.ms", "1000"),
        ("delivery.timeout.ms", "30000"),
        ("retry.backoff.ms", "20"),
        ("retry.backoff.max.ms", "200"),
        ("reconnect.backoff.ms", "20"),
        ("reconnect.backoff.max.ms", "200"),
        ("metadata.max.age.ms", "1000"),
    ];
    let plan = Plan {
        // Its network takes 15 ms one way: nothing was sent before the first faults begin, and
        // bursts are in flight together.
        seed: 1,
        profile: "scenario",
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        nodes,
        fsync: false,
        unclean: false,
        topics: vec![TopicPlan {
            name: "t0".to_owned(),
            partitions: 1,
            replication: nodes.min(3) as i16,
            min_insync: nodes.min(2),
            max_message_bytes: None,
            log_append_time: false,
        }],
        workload: Workload {
            producers: 1,
            records: 300,
            sizes: vec![40, 100],
            burst: 20,
            explicit: 1000,
            keyed: 0,
            keys: 1,
            null: 0,
            headers: 0,
            timestamps: 0,
            detached: 0,
            flushes: 0,
            close: None,
            resend: false,
        },
        transactions: None,
        first_sequence: 0,
        scenery: Scenery::default(),
        chaos: 4000,
        faults: Vec::new(),
        survivable: true,
    };
    Script { plan, spread: 0 }
}

impl Script {
    /// Another value of a setting.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.plan.settings.retain(|(known, _)| known != name);
        self.plan.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without idempotence, `acks` as given.
    pub(crate) fn plain(self, acks: &str) -> Self {
        self.set("acks", acks).set("enable.idempotence", "false")
    }

    /// Delivery ends after so long, a request after so long.
    pub(crate) fn timeouts(self, delivery: u64, request: u64) -> Self {
        self.set("delivery.timeout.ms", &delivery.to_string())
            .set("request.timeout.ms", &request.to_string())
    }

    /// Anything else about the plan.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.plan);
        self
    }

    /// Partitions of the topic.
    pub(crate) fn partitions(self, count: i32) -> Self {
        self.with(|plan| plan.topics[0].partitions = count)
    }

    /// At this time, this goes wrong.
    pub(crate) fn at(self, at: u64, fault: Fault) -> Self {
        self.during(at, at, fault)
    }

    /// From one time to the other, this goes wrong.
    pub(crate) fn during(mut self, at: u64, until: u64, fault: Fault) -> Self {
        self.plan.faults.push(PlannedFault { at, until, fault });
        self
    }

    /// From one time to the other, this goes wrong on every node.
    pub(crate) fn everywhere(mut self, at: u64, until: u64, fault: impl Fn(i32) -> Fault) -> Self {
        for node in 1..=self.plan.nodes {
            self = self.during(at, until, fault(node));
        }
        self.spread += self.plan.nodes as usize - 1;
        self
    }

    /// Lives through it: no promise is broken, and every fault was felt; one that strikes
    /// everywhere, on some node.
    #[track_caller]
    pub(crate) fn run(self) -> Story {
        let Self { plan, spread } = self;
        let report = run(&plan);
        assert!(report.is_clean(), "{plan}\n{report}");
        for kind in plan.kinds() {
            let felt = report.faults.contains_key(&kind);
            assert!(felt, "nobody felt {}: {plan}\n{report}", kind.name());
        }
        let felt: u64 = report.faults.values().sum();
        let least = plan.faults.len() - spread;
        assert!(felt >= least as u64, "{felt} of {least} faults were felt: {plan}\n{report}");
        assert!(report.records > 50, "hardly a record: {plan}\n{report}");
        Story { plan, report }
    }
}

/// What came of it.
pub(crate) struct Story {
    pub(crate) plan: Plan,
    pub(crate) report: Report,
}

impl Story {
    /// How often something of the coverage was met.
    pub(crate) fn met(&self, what: &str) -> u64 {
        self.report.coverage.met.get(what).copied().unwrap_or(0)
    }

    /// How many batches were answered so.
    pub(crate) fn answers(&self, code: ErrorCode) -> u64 {
        self.report.coverage.codes.get(code.name()).copied().unwrap_or(0)
    }

    /// This was met.
    #[track_caller]
    pub(crate) fn saw(self, what: &str) -> Self {
        let Self { plan, report } = &self;
        assert!(self.met(what) > 0, "never met: {what}\n{plan}\n{report}{:#?}", report.coverage);
        self
    }

    /// This was not.
    #[track_caller]
    pub(crate) fn never_saw(self, what: &str) -> Self {
        let Self { plan, report } = &self;
        assert_eq!(self.met(what), 0, "{what}\n{plan}\n{report}{:#?}", report.coverage);
        self
    }

    /// A batch was answered so.
    #[track_caller]
    pub(crate) fn heard(self, code: ErrorCode) -> Self {
        let Self { plan, report } = &self;
        let heard = self.answers(code) > 0;
        assert!(heard, "no answer {}\n{plan}\n{report}{:#?}", code.name(), report.coverage);
        self
    }

    /// A coordinator answered so.
    #[track_caller]
    pub(crate) fn coordinated(self, api: ApiKey, code: ErrorCode) -> Self {
        let Self { plan, report } = &self;
        let heard = report.coverage.coordinated.contains_key(&(api.name(), code.name()));
        let (api, code) = (api.name(), code.name());
        assert!(heard, "no {code} to {api}\n{plan}\n{report}{:#?}", report.coverage);
        self
    }

    /// Every record that was accepted was written.
    #[track_caller]
    pub(crate) fn all_written(self) -> Self {
        self.never_saw("core: failed")
    }

    /// No epoch was given up.
    #[track_caller]
    pub(crate) fn no_bump(self) -> Self {
        self.never_saw("core: epoch bumped")
    }
}

/// A node twists Produce requests: from the `nth` on, so many.
pub(crate) fn produce(node: i32, nth: u16, times: u16, twist: Twist) -> Fault {
    Fault::Twist { node, api: ApiKey::Produce, nth, times, twist }
}

/// All links to a node.
pub(crate) fn to(node: i32) -> Link {
    Link { producer: None, node: Some(node) }
}
