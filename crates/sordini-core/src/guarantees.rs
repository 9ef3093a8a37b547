//! What a set of settings promises: a pure function of the [`Config`].
//!
//! Each promise comes with its reason, so that a summary can say not only *what* holds but which
//! setting to change for more. Promises end where another program's power begins: each names the
//! topic settings and broker failures that it does not cover.

use std::fmt;

use crate::config::{Acks, Config};

/// How often a record that was accepted is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// Never twice, perhaps not at all.
    AtMostOnce,
    /// Written if reported so, perhaps twice.
    AtLeastOnce,
    /// Written if reported so, and never twice by this producer's own retries.
    ExactlyOnce,
}

/// Whether the records of one partition stand in the order of their acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Those that are written are in order.
    Kept,
    /// A batch may land behind its successors.
    MayChange,
}

/// Whether this producer's own retries can write a record twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Duplicates {
    /// They can't.
    None,
    /// They can, after a lost response.
    Possible,
}

/// When a record that was reported written can be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Only if every replica that had to have it is lost, or an unclean election is allowed.
    ReplicasLost,
    /// If the leader fails before a follower has copied it.
    LeaderFails,
    /// At any fault: nobody confirmed it.
    AnyFault,
}

/// When a record that was written is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Visibility {
    /// By itself, as soon as it is written.
    Alone,
    /// With all of its transaction, once that is committed; by readers of committed records.
    WithItsTransaction,
}

/// A promise and its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Because<T> {
    /// What holds.
    pub holds: T,
    /// The settings that make it so, and where it ends.
    pub reason: &'static str,
}

/// What the settings promise. Its `Display` is the one line of [`level`](Self::level).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guarantees {
    /// All of it in one line.
    pub level: String,
    /// How often an accepted record is written.
    pub delivery: Because<Delivery>,
    /// The order within one partition.
    pub order: Because<Order>,
    /// What retries may do.
    pub duplicates: Because<Duplicates>,
    /// What a broker's failure may take away again.
    pub loss: Because<Loss>,
    /// What is seen together.
    pub visibility: Because<Visibility>,
}

impl fmt::Display for Guarantees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.level)
    }
}

impl Guarantees {
    /// Reads the promises off the settings, which should have passed [`Config::check`].
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let delivery = delivery(config);
        let order = order(config);
        let duplicates = duplicates(config);
        let loss = loss(config);
        let visibility = visibility(config);
        let level = format!(
            "{}{}, {}, {} (acks={}, enable.idempotence={})",
            match visibility.holds {
                Visibility::WithItsTransaction => "all of a transaction or nothing, ",
                Visibility::Alone => "",
            },
            match delivery.holds {
                Delivery::ExactlyOnce => "exactly once per partition",
                Delivery::AtLeastOnce => "at least once",
                Delivery::AtMostOnce => "at most once",
            },
            match order.holds {
                Order::Kept => "in order",
                Order::MayChange => "order may change",
            },
            match loss.holds {
                Loss::ReplicasLost => "acknowledged by all replicas in sync",
                Loss::LeaderFails => "acknowledged by the leader only",
                Loss::AnyFault => "not acknowledged",
            },
            match config.acks {
                Acks::None => "0",
                Acks::Leader => "1",
                Acks::All => "all",
            },
            config.enable_idempotence
        );
        Self { level, delivery, order, duplicates, loss, visibility }
    }
}

const fn because<T>(holds: T, reason: &'static str) -> Because<T> {
    Because { holds, reason }
}

const fn delivery(config: &Config) -> Because<Delivery> {
    if matches!(config.acks, Acks::None) {
        because(
            Delivery::AtMostOnce,
            "acks=0: a record counts as written once its bytes left this process, and is never \
             sent again after that",
        )
    } else if config.enable_idempotence {
        because(
            Delivery::ExactlyOnce,
            "enable.idempotence=true: brokers recognise this producer's retries by sequence \
             number; a record reported as unknown and sent again by the application is a new \
             record",
        )
    } else if config.retries == 0 {
        because(
            Delivery::AtMostOnce,
            "retries=0: a record is sent once; one reported as failed may have been written all \
             the same if its fate is unknown",
        )
    } else {
        because(
            Delivery::AtLeastOnce,
            "enable.idempotence=false with retries: a batch whose response was lost is sent again",
        )
    }
}

const fn order(config: &Config) -> Because<Order> {
    if config.enable_idempotence {
        because(
            Order::Kept,
            "enable.idempotence=true: a broker refuses a batch whose predecessor is missing",
        )
    } else if matches!(config.acks, Acks::None) {
        because(
            Order::MayChange,
            "acks=0: kept on one connection; what one that broke still carries may land behind what \
             the next one brings",
        )
    } else if config.max_in_flight_requests_per_connection == 1 {
        because(
            Order::Kept,
            "max.in.flight.requests.per.connection=1: no batch is sent before its predecessor is \
             settled",
        )
    } else {
        because(
            Order::MayChange,
            "enable.idempotence=false with more than one request in flight: a batch that is retried, \
             sent again in parts since it was too large, or on its way to an old leader, may land \
             behind its successors",
        )
    }
}

const fn duplicates(config: &Config) -> Because<Duplicates> {
    if config.enable_idempotence {
        because(
            Duplicates::None,
            "enable.idempotence=true: a broker drops the second copy of a batch",
        )
    } else if config.retries == 0 || matches!(config.acks, Acks::None) {
        because(Duplicates::None, "no batch is sent again once it may have been written")
    } else {
        because(
            Duplicates::Possible,
            "enable.idempotence=false with retries: a batch that was written and whose response \
             was lost is written again",
        )
    }
}

const fn loss(config: &Config) -> Because<Loss> {
    match config.acks {
        Acks::All => because(
            Loss::ReplicasLost,
            "acks=all: every replica in sync has the record; how many that are at least is the \
             topic's min.insync.replicas, and unclean.leader.election.enable can undo it",
        ),
        Acks::Leader => because(
            Loss::LeaderFails,
            "acks=1: only the leader has the record when it is reported written",
        ),
        Acks::None => {
            because(Loss::AnyFault, "acks=0: no broker confirms anything, and no error is reported")
        }
    }
}

const fn visibility(config: &Config) -> Because<Visibility> {
    if config.transactional_id.is_some() {
        because(
            Visibility::WithItsTransaction,
            "transactional.id: readers with isolation.level=read_committed see all records of a \
             transaction, and the offsets sent with it, or none; other readers see each at once",
        )
    } else {
        because(Visibility::Alone, "no transactional.id: each record is seen once it is written")
    }
}

#[cfg(test)]
mod tests {
    use super::{Delivery, Duplicates, Guarantees, Loss, Order, Visibility};
    use crate::config::Config;

    fn of(settings: &[(&str, &str)]) -> Guarantees {
        let mut builder = Config::builder();
        builder.set("bootstrap.servers", "localhost:9092").expect("an address");
        for (name, value) in settings {
            builder.set(name, value).expect("a supported setting");
        }
        Guarantees::of(&builder.build().expect("no contradiction").0)
    }

    fn all(g: &Guarantees) -> (Delivery, Order, Duplicates, Loss) {
        (g.delivery.holds, g.order.holds, g.duplicates.holds, g.loss.holds)
    }

    #[test]
    fn the_defaults_promise_most() {
        let defaults = of(&[]);
        assert_eq!(
            all(&defaults),
            (Delivery::ExactlyOnce, Order::Kept, Duplicates::None, Loss::ReplicasLost)
        );
        assert_eq!(
            defaults.to_string(),
            "exactly once per partition, in order, acknowledged by all replicas in sync (acks=all, \
             enable.idempotence=true)"
        );
    }

    #[test]
    fn each_setting_takes_away_what_it_says() {
        let in_flight = "max.in.flight.requests.per.connection";
        assert_eq!(
            all(&of(&[("enable.idempotence", "false")])),
            (Delivery::AtLeastOnce, Order::MayChange, Duplicates::Possible, Loss::ReplicasLost)
        );
        assert_eq!(
            all(&of(&[("enable.idempotence", "false"), (in_flight, "1")])),
            (Delivery::AtLeastOnce, Order::Kept, Duplicates::Possible, Loss::ReplicasLost)
        );
        assert_eq!(
            all(&of(&[("acks", "1")])),
            (Delivery::AtLeastOnce, Order::MayChange, Duplicates::Possible, Loss::LeaderFails)
        );
        assert_eq!(
            all(&of(&[("acks", "0"), (in_flight, "1")])),
            (Delivery::AtMostOnce, Order::MayChange, Duplicates::None, Loss::AnyFault)
        );
        assert_eq!(
            all(&of(&[("retries", "0")])),
            (Delivery::AtMostOnce, Order::MayChange, Duplicates::None, Loss::ReplicasLost)
        );
    }

    #[test]
    fn transactions_add_to_the_promises_and_take_nothing() {
        let (plain, transactional) = (of(&[]), of(&[("transactional.id", "t")]));
        assert_eq!(all(&plain), all(&transactional));
        assert_eq!(plain.visibility.holds, Visibility::Alone);
        assert_eq!(transactional.visibility.holds, Visibility::WithItsTransaction);
        assert_eq!(transactional.level, format!("all of a transaction or nothing, {plain}"));
    }

    #[test]
    fn settings_without_a_say_change_no_promise() {
        assert_eq!(of(&[]), of(&[("linger.ms", "0"), ("batch.size", "0")]));
    }
}
