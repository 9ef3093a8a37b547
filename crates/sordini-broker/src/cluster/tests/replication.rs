use super::*;

#[test]
fn acked_by_all_survives_the_death_of_each_node() {
    for victim in 1..=3 {
        let mut world = World::replicated();
        let answer = world.produce(1, &batch(&["a", "b"]), -1);
        assert_eq!((code(&answer), answer.base_offset), (ErrorCode::None, 0));
        world.kill(victim);
        world.advance(5000);
        let leader = world.leader();
        assert_ne!(leader, victim);
        assert_eq!(world.values(leader), ["a", "b"]);
        let answer = world.produce(leader, &batch(&["c"]), -1);
        assert_eq!((code(&answer), answer.base_offset), (ErrorCode::None, 2));
    }
}
