"""A Kafka broker for tests: the mock cluster of librdkafka, as the package confluent-kafka has it.

usage: kafka_broker.py TOPIC PARTITIONS

Prints the address of the broker, and obeys the commands that come as lines on standard input, each with a line on
standard output:

    down, up         the broker goes (with all connections), and comes again
    fail CODE...     the next requests to produce are answered with these errors of Kafka, 0 being none
    read COUNT       prints so many messages from the beginning, each as a line of JSON
"""

import ctypes
import glob
import json
import os
import sys

import confluent_kafka

PRODUCE = 0  # ApiKey of requests to produce


def library():
    folder = os.path.dirname(os.path.dirname(confluent_kafka.__file__))
    (path,) = glob.glob(os.path.join(folder, "confluent_kafka.libs", "librdkafka-*.so*"))
    rd = ctypes.CDLL(path)
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(rd, name).restype = ctypes.c_void_p
    rd.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return rd


def read(address, topic, partitions, count):
    settings = {"bootstrap.servers": address, "group.id": "test", "enable.auto.commit": False}
    consumer = confluent_kafka.Consumer(settings)
    # Without a group of consumers, which takes some seconds to form.
    begin = confluent_kafka.OFFSET_BEGINNING
    consumer.assign([confluent_kafka.TopicPartition(topic, number, begin) for number in range(partitions)])
    messages = []
    while len(messages) < count:
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            print(message.error(), file=sys.stderr)
            continue
        messages.append(message)
    # One that is too many would come at once.
    extra = consumer.poll(0.5)
    if extra is not None and not extra.error():
        messages.append(extra)
    consumer.close()
    for message in messages:
        text = lambda data: None if data is None else data.decode()
        print(json.dumps({
            "partition": message.partition(),
            "offset": message.offset(),
            "time_ms": message.timestamp()[1],
            "key": text(message.key()),
            "value": text(message.value()),
            "headers": {name: text(value) for name, value in message.headers() or []},
        }))


def main():
    topic, partitions = sys.argv[1], int(sys.argv[2])
    rd = library()
    error = ctypes.create_string_buffer(512)
    client = ctypes.c_void_p(rd.rd_kafka_new(0, ctypes.c_void_p(rd.rd_kafka_conf_new()), error, len(error)))
    cluster = ctypes.c_void_p(rd.rd_kafka_mock_cluster_new(client, 1))
    rd.rd_kafka_mock_topic_create(cluster, topic.encode(), partitions, 1)
    address = rd.rd_kafka_mock_cluster_bootstraps(cluster).decode()
    print(address, flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "down":
            rd.rd_kafka_mock_broker_set_down(cluster, 1)
        elif command == "up":
            rd.rd_kafka_mock_broker_set_up(cluster, 1)
        elif command == "fail":
            codes = map(int, arguments)
            rd.rd_kafka_mock_push_request_errors(cluster, PRODUCE, ctypes.c_size_t(len(arguments)), *codes)
        elif command == "read":
            read(address, topic, partitions, int(arguments[0]))
        print("done", flush=True)


main()
