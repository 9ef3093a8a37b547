use super::*;
use crate::broker::ProduceQuota;

/// Two batches at once under a quota that takes ten seconds for each: what is answered.
fn two_at_once(mutes: bool) -> (Rig, Vec<Output>) {
    let size = batch(&["a"]).encode().len() as u64;
    let burst = Duration::ZERO;
    let quota = ProduceQuota { bytes_per_second: size.div_ceil(10), burst, mutes };
    let mut rig = Rig::on(MemoryStorage::new(), |c| c.produce_quota = Some(quota)).with_topic(1);
    let request = rig.produce_request(&batch(&["a"]), -1);
    rig.send(CONN, &request, 13);
    rig.send(CONN, &request, 13);
    rig.due();
    let outputs = rig.outputs();
    (rig, outputs)
}

fn throttle_ms(output: &Output) -> i32 {
    let Output::Send { frame, .. } = output else { panic!("an answer, not {output:?}") };
    decode::<ProduceRequest>(frame, 13).throttle_time_ms
}

#[test]
fn a_client_beyond_the_quota_is_answered_at_once_and_then_not_read() {
    let (mut rig, outputs) = two_at_once(true);
    assert_eq!(outputs.len(), 1, "the second request waits");
    let told = throttle_ms(&outputs[0]);
    assert!((9_000..=10_000).contains(&told), "{told}");
    let size = rig.broker.partition_state("t", 0).expect("state").log_end;
    assert_eq!(size, 1, "it is not processed before its time");
    rig.advance(told as u64 - 1);
    assert!(rig.outputs().is_empty());
    rig.advance(2);
    assert_eq!(rig.outputs().len(), 1);
}

#[test]
fn without_muting_the_client_is_only_told() {
    let (_, outputs) = two_at_once(false);
    let told: Vec<i32> = outputs.iter().map(throttle_ms).collect();
    assert_eq!(told.len(), 2);
    assert!(told[1] > told[0] && told[0] > 0, "{told:?}");
}
