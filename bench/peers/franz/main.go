// franz-go: kgo.Client.Produce with a promise per record.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func splitmix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

const pool, nkeys = 4096, 65536

var levels = [4]string{"INFO", "WARN", "DEBUG", "ERROR"}
var paths = [8]string{"/api/v1/orders", "/api/v1/users", "/login", "/health", "/api/v1/cart/items", "/search", "/static/app.js", "/api/v1/payments"}
var words = [16]string{"request", "completed", "timeout", "retrying", "upstream", "cache", "miss", "hit", "user", "session", "token", "expired", "database", "query", "slow", "accepted"}

// The same bytes as the Rust peers' payload().
func payload(k, size int) []byte {
	r := splitmix(uint64(k) + 1)
	next := func() uint64 { r = splitmix(r); return r }
	s := []byte(fmt.Sprintf(`{"ts":%d,"lvl":"%s","path":"%s","ms":%d,"id":"%08x","msg":"`,
		1760000000000+next()%100000000, levels[next()%4], paths[next()%8], next()%1000, uint32(next())))
	for len(s) < size {
		s = append(s, words[next()%16]...)
		s = append(s, ' ')
		if next()%4 == 0 {
			s = fmt.Appendf(s, "%d ", next()%100000)
		}
	}
	if size < 2 {
		return s[:size]
	}
	return append(s[:size-2], '"', '}')
}

type hist struct {
	b   [64 * 64]atomic.Uint64
	max atomic.Uint64
}

func (h *hist) add(ns uint64) {
	if ns < 64 {
		ns = 64
	}
	e := uint64(63 - bits.LeadingZeros64(ns))
	h.b[e*64+((ns>>(e-6))&63)].Add(1)
	for {
		m := h.max.Load()
		if ns <= m || h.max.CompareAndSwap(m, ns) {
			return
		}
	}
}

func (h *hist) q(q float64) float64 {
	var total, seen uint64
	for i := range h.b {
		total += h.b[i].Load()
	}
	want := max(uint64(float64(total)*q+0.999999), 1)
	for i := range h.b {
		seen += h.b[i].Load()
		if seen >= want {
			e, m := uint64(i/64), uint64(i%64)
			return float64((1<<e)+(m<<(e-6))) / 1e6
		}
	}
	return 0
}

func cpu() (u, s float64, rss int64) {
	var ru syscall.Rusage
	syscall.Getrusage(0, &ru)
	t := func(v syscall.Timeval) float64 { return float64(v.Sec) + float64(v.Usec)/1e6 }
	return t(ru.Utime), t(ru.Stime), ru.Maxrss
}

func main() {
	boot := flag.String("bootstrap", "127.0.0.1:29092", "")
	topic := flag.String("topic", "bench", "")
	records := flag.Int("records", 1000000, "")
	warmup := flag.Int("warmup", 0, "")
	size := flag.Int("size", 100, "")
	acks := flag.String("acks", "all", "")
	idem := flag.String("idempotent", "true", "")
	comp := flag.String("compression", "none", "")
	linger := flag.Float64("linger-ms", -1, "below 0: the client's default")
	batch := flag.Int("batch-bytes", 0, "0: the client's default")
	buffer := flag.Int("buffer-bytes", 0, "0: the client's default")
	rate := flag.Float64("rate", 0, "")
	keymode := flag.String("key-mode", "none", "")
	sample := flag.Int("sample", 1, "")
	defaults := flag.String("defaults", "false", "")
	inflight := flag.Int("inflight", 0, "")
	flag.Int("partitions", 6, "unused")
	flag.String("mode", "", "unused")
	dump := flag.Bool("dump", false, "write the payload pool to stdout")
	flag.Parse()
	if *dump {
		for k := range pool {
			os.Stdout.Write(payload(k, *size))
		}
		return
	}

	opts := []kgo.Opt{kgo.SeedBrokers(*boot), kgo.DefaultProduceTopic(*topic), kgo.AllowAutoTopicCreation()}
	switch *acks {
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()))
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()))
	}
	if *idem != "true" || *acks == "0" || *acks == "1" {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	switch *comp {
	case "none":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.NoCompression()))
	case "lz4":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	case "zstd":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	}
	if *linger >= 0 {
		opts = append(opts, kgo.ProducerLinger(time.Duration(*linger*float64(time.Millisecond))))
	}
	if *defaults != "true" {
		if *batch > 0 {
			opts = append(opts, kgo.ProducerBatchMaxBytes(int32(*batch)))
		}
		if *buffer > 0 {
			opts = append(opts, kgo.MaxBufferedRecords(2000000), kgo.MaxBufferedBytes(*buffer))
		}
	}
	if *inflight > 0 && *idem == "true" {
		fmt.Fprintln(os.Stderr, "franz-go takes no number of requests in flight with idempotence")
		os.Exit(1)
	}
	if *inflight > 0 {
		opts = append(opts, kgo.MaxProduceRequestsInflightPerBroker(*inflight))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		panic(err)
	}
	values := make([][]byte, pool)
	for i := range values {
		values[i] = payload(i, *size)
	}
	keys := make([][]byte, nkeys)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "%016x", splitmix(uint64(i)))
	}

	type rec struct {
		r  kgo.Record
		at int64
	}
	var h hist
	var ok, bad atomic.Uint64
	base := time.Now()
	recs := sync.Pool{New: func() any { return new(rec) }}
	run := func(n int, rate float64, measure bool) {
		var wg sync.WaitGroup
		ctx := context.Background()
		start := time.Now()
		tick, allowed := 0, 0
		var released int64
		wg.Add(n)
		for i := 0; i < n; i++ {
			if rate > 0 {
				for i >= allowed {
					tick++
					// A sender that was held up sends late: that counts from when it should have sent.
					due := start.Add(time.Duration(tick) * time.Millisecond)
					released = int64(due.Sub(base))
					if d := time.Until(due); d > 0 {
						time.Sleep(d)
						released = int64(time.Since(base))
					}
					allowed = int(float64(tick) * rate / 1000)
				}
			}
			// records are pooled, as the docs advise for high rates
			e := recs.Get().(*rec)
			e.r = kgo.Record{Value: values[i%pool]}
			if *keymode == "random" {
				e.r.Key = keys[i%nkeys]
			}
			e.at = 0
			if i%*sample == 0 && rate > 0 {
				e.at = released
			} else if i%*sample == 0 {
				e.at = int64(time.Since(base))
			}
			cl.Produce(ctx, &e.r, func(_ *kgo.Record, err error) {
				if measure {
					if err == nil {
						ok.Add(1)
					} else if bad.Add(1) <= 3 && !errors.Is(err, context.Canceled) {
						println(err.Error())
					}
					if e.at != 0 {
						h.add(uint64(int64(time.Since(base)) - e.at))
					}
				}
				recs.Put(e)
				wg.Done()
			})
		}
		cl.Flush(ctx)
		wg.Wait()
	}
	run(*warmup, 0, false)
	u0, s0, _ := cpu()
	t0 := time.Now()
	run(*records, *rate, true)
	s := time.Since(t0).Seconds()
	u1, s1, rss := cpu()
	n := float64(ok.Load())
	fmt.Printf(`{"peer":"franz-go","records":%d,"seconds":%.4f,"records_per_s":%.0f,"mb_per_s":%.2f,"user_s":%.3f,"sys_s":%.3f,`+
		`"cpu_us_per_record":%.4f,"total_user_s":%.3f,"total_sys_s":%.3f,"max_rss_kb":%d,"p50_ms":%.3f,"p99_ms":%.3f,"p999_ms":%.3f,"max_ms":%.3f,"errors":%d}`+"\n",
		ok.Load(), s, n/s, n*float64(*size)/s/1e6, u1-u0, s1-s0, (u1-u0+s1-s0)*1e6/max(n, 1), u1, s1, rss,
		h.q(.5), h.q(.99), h.q(.999), float64(h.max.Load())/1e6, bad.Load())
	cl.Close()
}
