//! Values by partition, found without a search.

use std::collections::BTreeMap;
use std::ops::Index;

/// Names a partition within the producer: the topic's number, and the partition's.
pub(super) type PartitionKey = (u32, i32);

/// A map from partitions to `T`, visited in their order. Partitions are numbered from 0 without
/// gaps, so those of one topic lie side by side.
#[derive(Debug)]
pub(super) struct Table<T> {
    topics: BTreeMap<u32, Vec<Option<T>>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { topics: BTreeMap::new() }
    }
}

fn place(partition: i32) -> Option<usize> {
    usize::try_from(partition).ok()
}

impl<T> Table<T> {
    #[inline]
    pub(super) fn get(&self, &(topic, partition): &PartitionKey) -> Option<&T> {
        self.topics.get(&topic)?.get(place(partition)?)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, &(topic, partition): &PartitionKey) -> Option<&mut T> {
        self.topics.get_mut(&topic)?.get_mut(place(partition)?)?.as_mut()
    }

    pub(super) fn contains_key(&self, key: &PartitionKey) -> bool {
        self.get(key).is_some()
    }

    /// # Panics
    /// If the partition's number is negative.
    pub(super) fn insert(&mut self, (topic, partition): PartitionKey, value: T) {
        let at = place(partition).expect("a partition's number is a natural one");
        let all = self.topics.entry(topic).or_default();
        if all.len() <= at {
            all.resize_with(at + 1, || None);
        }
        all[at] = Some(value);
    }

    pub(super) fn remove(&mut self, &(topic, partition): &PartitionKey) -> Option<T> {
        let all = self.topics.get_mut(&topic)?;
        let value = all.get_mut(place(partition)?)?.take();
        while all.pop_if(|last| last.is_none()).is_some() {}
        if all.is_empty() {
            self.topics.remove(&topic);
        }
        value
    }

    pub(super) fn len(&self) -> usize {
        self.values().count()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PartitionKey, &T)> {
        self.topics.iter().flat_map(|(topic, all)| entries(*topic, all))
    }

    /// The partitions of one topic.
    pub(super) fn of_topic(&self, topic: u32) -> impl Iterator<Item = (PartitionKey, &T)> {
        self.topics.get(&topic).into_iter().flat_map(move |all| entries(topic, all))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = PartitionKey> {
        self.iter().map(|(key, _)| key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.topics.values().flatten().flatten()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.topics.values_mut().flatten().flatten()
    }
}

fn entries<T>(topic: u32, all: &[Option<T>]) -> impl Iterator<Item = (PartitionKey, &T)> {
    let numbered = (0..).zip(all);
    numbered.filter_map(move |(at, value)| value.as_ref().map(|value| ((topic, at), value)))
}

impl<T> Index<&PartitionKey> for Table<T> {
    type Output = T;

    /// # Panics
    /// If there is no such partition.
    #[inline]
    fn index(&self, key: &PartitionKey) -> &T {
        self.get(key).expect("the caller knows the partition")
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn partitions_are_visited_in_their_order_whatever_order_they_came_in() {
        let mut table = Table::default();
        for key in [(7, 1), (2, 3), (7, 0), (2, 0), (9, 4)] {
            table.insert(key, key);
        }
        let sorted = [(2, 0), (2, 3), (7, 0), (7, 1), (9, 4)];
        assert_eq!(table.keys().collect::<Vec<_>>(), sorted);
        assert!(table.iter().all(|(key, value)| key == *value));
        assert_eq!(table.values().copied().collect::<Vec<_>>(), sorted);
        assert_eq!(table.of_topic(7).map(|(key, _)| key).collect::<Vec<_>>(), [(7, 0), (7, 1)]);
        assert_eq!((table.of_topic(3).count(), table.len()), (0, 5));
        assert_eq!(
            (table.get(&(2, 3)), table.get(&(2, 1)), table.get(&(2, 4))),
            (Some(&(2, 3)), None, None)
        );
        assert_eq!(table.get(&(2, -1)), None);
        assert_eq!(table.remove(&(2, 3)), Some((2, 3)));
        assert_eq!((table.remove(&(2, 3)), table.remove(&(2, 0))), (None, Some((2, 0))));
        assert_eq!((table.of_topic(2).count(), table.len()), (0, 3), "an empty topic is forgotten");
    }
}
