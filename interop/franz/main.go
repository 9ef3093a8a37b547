// Produces standard input's lines to a topic with franz-go, or prints a topic's records: a foreign
// client, as its users write it, against whatever broker is named.
//
//	franz produce BROKER TOPIC CODEC   codec: none gzip snappy lz4 zstd; a line is KEY<TAB>VALUE
//	franz consume BROKER TOPIC COUNT   reads all partitions from their start, without a group
//	franz write BROKER TOPIC PARTITIONS ID COUNT      numbers in transactions, every fifth aborted
//	franz read BROKER TOPIC PARTITIONS ISOLATION      to the end: read_committed, read_uncommitted
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "franz:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	wanted := map[string]int{"produce": 4, "consume": 4, "write": 6, "read": 5}
	if len(args) == 0 || len(args) != wanted[args[0]] {
		return errors.New("want: produce, consume, write or read, as main.go says")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	switch args[0] {
	case "produce":
		return produce(ctx, args[1], args[2], args[3])
	case "consume":
		count, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return consume(ctx, args[1], args[2], count)
	case "write", "read":
		partitions, err := strconv.ParseInt(args[3], 10, 32)
		if err != nil {
			return err
		}
		if args[0] == "read" {
			return readNumbers(ctx, args[1], args[2], int(partitions), args[4])
		}
		count, err := strconv.Atoi(args[5])
		if err != nil {
			return err
		}
		return writeNumbers(ctx, args[1], args[2], int32(partitions), args[4], count)
	}
	return fmt.Errorf("what is %s?", args[0])
}

func produce(ctx context.Context, broker, topic, codec string) error {
	compression, known := codecs[codec]
	if !known {
		return fmt.Errorf("what codec is %s?", codec)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(broker),
		kgo.DefaultProduceTopic(topic),
		kgo.AllowAutoTopicCreation(),
		kgo.ProducerBatchCompression(compression),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	var first error
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		record := &kgo.Record{Value: bytes.Clone(lines.Bytes())}
		if key, value, found := bytes.Cut(record.Value, []byte("\t")); found {
			record.Key, record.Value = key, value
		}
		// Promises are called one at a time.
		client.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil && first == nil {
				first = err
			}
		})
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	return first
}

func consume(ctx context.Context, broker, topic string, count int) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(broker),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for count > 0 {
		fetches := client.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			return fmt.Errorf("%s [%d]: %w", errs[0].Topic, errs[0].Partition, errs[0].Err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			fmt.Fprintf(out, "%d\t%d\t%s\t%s\n", record.Partition, record.Offset, record.Key, record.Value)
			count--
		})
	}
	return nil
}
