"""Transactions with librdkafka, by its Python binding.

    numbers.py write BROKER TOPIC PARTITIONS ID COUNT GROUP   numbers, each in one transaction to every
        partition; every fifth is aborted. What was meant and what came of it goes to standard output.
        Each transaction commits its number as the group's offset in partition 0.
    numbers.py read BROKER TOPIC PARTITIONS ISOLATION         all records up to the partitions' ends
    numbers.py committed BROKER TOPIC PARTITIONS GROUP        the group's offsets, a JSON array
"""

import json
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

DEADLINE_S = 60


def write(broker, topic, partitions, transactional_id, count, group):
    producer = Producer({"bootstrap.servers": broker, "transactional.id": transactional_id})
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group, "enable.auto.commit": False})
    producer.init_transactions(DEADLINE_S)
    print("start")
    for number in range(int(count)):
        commits = number % 5 != 4
        print("intent", number, "commit" if commits else "abort")
        producer.begin_transaction()
        for partition in range(int(partitions)):
            producer.produce(topic, partition=partition, value=str(number))
        offsets = [TopicPartition(topic, 0, number)]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), DEADLINE_S)
        if commits:
            producer.commit_transaction(DEADLINE_S)
        else:
            # Else its records would be thrown away before they are sent.
            producer.flush(DEADLINE_S)
            producer.abort_transaction(DEADLINE_S)
        print("outcome", number, "committed" if commits else "aborted")
    print("end")
    consumer.close()


def read(broker, topic, partitions, isolation):
    consumer = Consumer({
        "bootstrap.servers": broker,
        "group.id": "nobody",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "check.crcs": True,
        "isolation.level": isolation,
    })
    left = set(range(int(partitions)))
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in left])
    while left:
        message = consumer.poll(DEADLINE_S)
        if message is None:
            sys.exit(f"numbers.py: no end of {topic} {sorted(left)}")
        error = message.error()
        if error is None:
            value = message.value().decode()
            print(message.partition(), message.offset(), "", value, sep="\t")
        elif error.code() == KafkaError._PARTITION_EOF:
            left.discard(message.partition())
        else:
            raise KafkaException(error)
    consumer.close()


def committed(broker, topic, partitions, group):
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group, "isolation.level": "read_committed"})
    asked = [TopicPartition(topic, partition) for partition in range(int(partitions))]
    found = consumer.committed(asked, DEADLINE_S)
    print(json.dumps([it.offset if it.offset >= 0 else None for it in found]))
    consumer.close()


if __name__ == "__main__":
    verbs = {"write": write, "read": read, "committed": committed}
    if len(sys.argv) < 2 or sys.argv[1] not in verbs:
        sys.exit(__doc__)
    verbs[sys.argv[1]](*sys.argv[2:])
