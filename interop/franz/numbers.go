package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// writeNumbers writes 0 to count-1, each in one transaction to every partition; every fifth is
// aborted. What was meant and what came of it goes to standard output.
func writeNumbers(ctx context.Context, broker, topic string, partitions int32, id string, count int) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(broker),
		kgo.DefaultProduceTopic(topic),
		kgo.TransactionalID(id),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Println("start")
	for number := range count {
		end, intent, outcome := kgo.TryCommit, "commit", "committed"
		if number%5 == 4 {
			end, intent, outcome = kgo.TryAbort, "abort", "aborted"
		}
		fmt.Println("intent", number, intent)
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		var records []*kgo.Record
		for partition := range partitions {
			records = append(records, &kgo.Record{Partition: partition, Value: []byte(strconv.Itoa(number))})
		}
		if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return err
		}
		if err := client.EndTransaction(ctx, end); err != nil {
			return err
		}
		fmt.Println("outcome", number, outcome)
	}
	fmt.Println("end")
	return nil
}

// readNumbers prints the records of all partitions up to their ends. Each must end with a marker:
// that is what tells that all before it was read.
func readNumbers(ctx context.Context, broker, topic string, partitions int, isolation string) error {
	level, known := map[string]kgo.IsolationLevel{
		"read_committed": kgo.ReadCommitted(), "read_uncommitted": kgo.ReadUncommitted(),
	}[isolation]
	if !known {
		return fmt.Errorf("what isolation is %s?", isolation)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(broker),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(level),
		kgo.KeepControlRecords(),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	read := make(map[int32]bool)
	for len(read) < partitions {
		fetches := client.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			return fmt.Errorf("%s [%d]: %w", errs[0].Topic, errs[0].Partition, errs[0].Err)
		}
		fetches.EachPartition(func(fetched kgo.FetchTopicPartition) {
			for _, record := range fetched.Records {
				if !record.Attrs.IsControl() {
					fmt.Fprintf(out, "%d\t%d\t%s\t%s\n", record.Partition, record.Offset, record.Key, record.Value)
				}
				if record.Offset+1 >= fetched.HighWatermark {
					read[record.Partition] = true
				}
			}
		})
	}
	return nil
}
