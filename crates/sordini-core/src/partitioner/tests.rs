use super::{Choice, IgnoreKeys, Keyed, Murmur2, Partitioner, RoundRobin, from_config, murmur2};
use crate::config::Config;

/// Key, hash, and partition of seven, as Java's client 4.4.0 gave them.
const JAVA: [(&[u8], i32, i32); 11] = [
    (b"", 275_646_681, 2),
    (b"a", -1_563_381_124, 5),
    (b"ab", 316_155_434, 0),
    (b"abc", 479_470_107, 4),
    (b"abcd", -1_323_649_548, 5),
    (b"21", -973_932_308, 3),
    (b"foobar", -790_332_482, 0),
    (b"a-little-bit-long-string", -985_981_536, 1),
    (b"a-little-bit-longer-string", -1_486_304_829, 0),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971, 3),
    (b"\xff\x80", -442_788_720, 6),
];

fn choose(partitioner: &dyn Partitioner, topic: &str, key: Option<&[u8]>, n: u32) -> Choice {
    partitioner.partition(Keyed::new(topic, key, Some(b"value")), n)
}

#[test]
fn murmur2_is_javas() {
    for (key, hash, _) in JAVA {
        assert_eq!(murmur2(key), hash, "{key:?}");
    }
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(murmur2(&all), -1_948_347_274);
}

#[test]
fn keys_go_where_java_sends_them() {
    for (key, _, of_seven) in JAVA {
        let chosen = choose(&Murmur2, "t", Some(key), 7);
        assert_eq!(chosen, Choice::Partition(of_seven), "{key:?}");
        assert_eq!(choose(&Murmur2, "t", Some(key), 1), Choice::Partition(0));
    }
}

#[test]
fn keyless_records_may_go_anywhere() {
    assert_eq!(choose(&Murmur2, "t", None, 7), Choice::Any);
}

#[test]
fn ignored_keys_do_not_choose() {
    assert_eq!(choose(&IgnoreKeys, "t", Some(b"abc"), 7), Choice::Any);
}

#[test]
fn round_robin_visits_every_partition_in_turn_for_each_topic() {
    let round_robin = RoundRobin::new();
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(choose(&round_robin, "orders", Some(b"k"), 3));
        let _ = choose(&round_robin, "clicks", None, 3);
    }
    assert_eq!(seen, [0, 1, 2, 0, 1, 2].map(Choice::Partition));
}

#[test]
fn no_partitioner_divides_by_zero() {
    for partitioner in [&Murmur2 as &dyn Partitioner, &RoundRobin::new(), &IgnoreKeys] {
        assert_eq!(choose(partitioner, "t", Some(b"abc"), 0), Choice::Any);
    }
}

#[test]
fn the_settings_choose_the_partitioner() {
    let chosen = |name, value| {
        let mut builder = Config::builder();
        builder.set(name, value).expect("the setting is supported");
        choose(&*from_config(builder.peek()), "t", Some(b"abc"), 7)
    };
    assert_eq!(chosen("client.id", "x"), Choice::Partition(4));
    assert_eq!(chosen("partitioner.ignore.keys", "true"), Choice::Any);
    let class = "org.apache.kafka.clients.producer.RoundRobinPartitioner";
    assert_eq!(chosen("partitioner.class", class), Choice::Partition(0));
}

/// Reads what `interop/golden/Murmur2.java` wrote; its header tells the format.
struct Golden(&'static [u8]);

impl Golden {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk().expect("the file ends early");
        self.0 = rest;
        *taken
    }

    fn short(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }
}

#[test]
fn ten_thousand_keys_go_where_javas_client_sends_them() {
    let mut golden = Golden(include_bytes!("../../tests/golden/murmur2.bin"));
    let vectors = u32::from_be_bytes(golden.take());
    assert!(vectors >= 10_000);
    let [counts] = golden.take();
    let counts: Vec<u32> = (0..counts).map(|_| u32::from(golden.short())).collect();
    for _ in 0..vectors {
        let [length] = golden.take();
        let (key, rest) = golden.0.split_at(usize::from(length));
        golden.0 = rest;
        assert_eq!(murmur2(key), i32::from_be_bytes(golden.take()), "{key:?}");
        for &count in &counts {
            let expected = Choice::Partition(i32::from(golden.short()));
            assert_eq!(choose(&Murmur2, "t", Some(key), count), expected, "{key:?} of {count}");
        }
    }
    assert!(golden.0.is_empty());
}
