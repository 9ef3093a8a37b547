use super::*;

#[test]
fn a_leader_moves_to_a_member_of_the_isr_only() {
    let mut world = World::replicated();
    assert!(world.cluster.move_leader("t", 0, 3));
    world.pump();
    assert_eq!(world.cluster.leader("t", 0), Some((3, 1)));
    assert!(!world.cluster.move_leader("t", 0, 9));
    assert_eq!(code(&world.produce(3, &batch(&["a"]), -1)), ErrorCode::None);
}
