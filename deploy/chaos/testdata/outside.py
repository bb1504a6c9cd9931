"""A Kafka client that knows nothing of us: kafka-python with its default settings, but for acks. The changes are in snappy.

outside.py produce BOOTSTRAP      reads JSON lines {topic, key, value, headers} and prints {partition, offset} for each
outside.py consume BOOTSTRAP TOPIC  prints {partition, offset, key, value, headers} of everything up to the present end
"""

import json
import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition


def produce(bootstrap):
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    sent = []
    for line in sys.stdin:
        r = json.loads(line)
        value = None if r["value"] is None else r["value"].encode()
        headers = [(k, v.encode()) for k, v in r["headers"]]
        sent.append(producer.send(r["topic"], key=r["key"].encode(), value=value, headers=headers))
    producer.flush(30)
    for f in sent:
        meta = f.get(timeout=30)
        print(json.dumps({"partition": meta.partition, "offset": meta.offset}))
    producer.close(30)


def consume(bootstrap, topic):
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    parts = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
    consumer.assign(parts)
    consumer.seek_to_beginning(*parts)
    ends = consumer.end_offsets(parts)
    while any(consumer.position(p) < ends[p] for p in parts):
        for records in consumer.poll(timeout_ms=500).values():
            for r in records:
                headers = [[k, v.decode()] for k, v in r.headers]
                value = None if r.value is None else r.value.decode()
                print(json.dumps({"partition": r.partition, "offset": r.offset, "key": r.key.decode(), "value": value, "headers": headers}))
    consumer.close()


if sys.argv[1] == "produce":
    produce(sys.argv[2])
else:
    consume(sys.argv[2], sys.argv[3])
