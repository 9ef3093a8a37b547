import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.atomic.*;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java client: KafkaProducer.send with a callback per record. */
public class Peer {
    static final int POOL = 4096, KEYS = 65536;
    static final String[] LEVELS = {"INFO", "WARN", "DEBUG", "ERROR"};
    static final String[] PATHS = {"/api/v1/orders", "/api/v1/users", "/login", "/health", "/api/v1/cart/items",
        "/search", "/static/app.js", "/api/v1/payments"};
    static final String[] WORDS = {"request", "completed", "timeout", "retrying", "upstream", "cache", "miss", "hit",
        "user", "session", "token", "expired", "database", "query", "slow", "accepted"};

    static long splitmix(long x) {
        x += 0x9e3779b97f4a7c15L;
        x = (x ^ (x >>> 30)) * 0xbf58476d1ce4e5b9L;
        x = (x ^ (x >>> 27)) * 0x94d049bb133111ebL;
        return x ^ (x >>> 31);
    }

    static class Rng {
        long r;
        long next(long m) {
            r = splitmix(r);
            return Long.remainderUnsigned(r, m);
        }
        int low() {
            r = splitmix(r);
            return (int) r;
        }
    }

    /** The same bytes as the Rust peers' payload(). */
    static byte[] payload(int k, int size) {
        Rng g = new Rng();
        g.r = splitmix(k + 1);
        StringBuilder s = new StringBuilder();
        s.append("{\"ts\":").append(1_760_000_000_000L + g.next(100_000_000));
        s.append(",\"lvl\":\"").append(LEVELS[(int) g.next(4)]);
        s.append("\",\"path\":\"").append(PATHS[(int) g.next(8)]);
        s.append("\",\"ms\":").append(g.next(1000));
        s.append(",\"id\":\"").append(String.format("%08x", g.low())).append("\",\"msg\":\"");
        while (s.length() < size) {
            s.append(WORDS[(int) g.next(16)]).append(' ');
            if (g.next(4) == 0) s.append(g.next(100_000)).append(' ');
        }
        s.setLength(Math.max(0, size - 2));
        s.append("\"}");
        s.setLength(size);
        return s.toString().getBytes(StandardCharsets.ISO_8859_1);
    }

    static final AtomicLongArray HIST = new AtomicLongArray(64 * 64);
    static final AtomicLong MAX = new AtomicLong();

    static void hist(long ns) {
        ns = Math.max(ns, 64);
        int e = 63 - Long.numberOfLeadingZeros(ns);
        HIST.incrementAndGet(e * 64 + (int) ((ns >> (e - 6)) & 63));
        if (ns > MAX.get()) MAX.accumulateAndGet(ns, Math::max);
    }

    static double q(double q) {
        long total = 0, seen = 0;
        for (int i = 0; i < HIST.length(); i++) total += HIST.get(i);
        long want = Math.max(1, (long) Math.ceil(total * q));
        for (int i = 0; i < HIST.length(); i++) {
            seen += HIST.get(i);
            if (seen >= want) return ((1L << (i / 64)) + ((long) (i % 64) << (i / 64 - 6))) / 1e6;
        }
        return 0;
    }

    /** user and system seconds of the whole process, from /proc (10 ms steps) */
    static double[] cpu() throws Exception {
        String s = Files.readString(Path.of("/proc/self/stat"));
        String[] f = s.substring(s.lastIndexOf(')') + 2).split(" ");
        return new double[] {Long.parseLong(f[11]) / 100.0, Long.parseLong(f[12]) / 100.0};
    }

    static long maxRss() throws Exception {
        for (String l : Files.readAllLines(Path.of("/proc/self/status")))
            if (l.startsWith("VmHWM:")) return Long.parseLong(l.replaceAll("[^0-9]", ""));
        return 0;
    }

    static final AtomicLong OK = new AtomicLong(), BAD = new AtomicLong();

    static void run(Producer<byte[], byte[]> p, String topic, int n, double rate, int sample, boolean keyed,
            byte[][] values, byte[][] keys, boolean measure) {
        long start = System.nanoTime(), tick = 0, allowed = rate > 0 ? 0 : Long.MAX_VALUE, released = 0;
        AtomicLong done = new AtomicLong();
        for (int i = 0; i < n; i++) {
            while (i >= allowed) {
                tick++;
                long due = start + tick * 1_000_000L, d;
                // A sender that was held up sends late: that counts from when it should have sent.
                released = due;
                while ((d = due - System.nanoTime()) > 0) {
                    LockSupport.parkNanos(d);
                    released = System.nanoTime();
                }
                allowed = (long) (tick * rate / 1000);
            }
            final long at = i % sample != 0 ? 0 : rate > 0 ? released : System.nanoTime();
            p.send(new ProducerRecord<>(topic, keyed ? keys[i % KEYS] : null, values[i % POOL]), (m, e) -> {
                if (measure) {
                    if (e == null) OK.incrementAndGet();
                    else if (BAD.incrementAndGet() <= 3) System.err.println(e);
                    if (at != 0) hist(System.nanoTime() - at);
                }
                done.incrementAndGet();
            });
        }
        p.flush();
        while (done.get() < n) LockSupport.parkNanos(50_000);
    }

    public static void main(String[] a) throws Exception {
        Map<String, String> o = new HashMap<>();
        for (int i = 0; i + 1 < a.length; i += 2) o.put(a[i].substring(2), a[i + 1]);
        int size = Integer.parseInt(o.getOrDefault("size", "100"));
        Properties c = new Properties();
        c.put("bootstrap.servers", o.getOrDefault("bootstrap", "127.0.0.1:29092"));
        c.put("key.serializer", ByteArraySerializer.class);
        c.put("value.serializer", ByteArraySerializer.class);
        c.put("acks", o.getOrDefault("acks", "all"));
        c.put("enable.idempotence", o.getOrDefault("idempotent", "true"));
        c.put("compression.type", o.getOrDefault("compression", "none"));
        double linger = Double.parseDouble(o.getOrDefault("linger-ms", "-1"));
        if (linger >= 0) c.put("linger.ms", String.valueOf(Math.round(linger)));
        int batch = Integer.parseInt(o.getOrDefault("batch-bytes", "0"));
        long buffer = Long.parseLong(o.getOrDefault("buffer-bytes", "0"));
        if (!o.getOrDefault("defaults", "false").equals("true")) {
            if (batch > 0) {
                c.put("batch.size", String.valueOf(batch));
                c.put("max.request.size", String.valueOf(16 << 20));
            }
            if (buffer > 0) c.put("buffer.memory", String.valueOf(buffer));
        }
        if (o.containsKey("inflight")) c.put("max.in.flight.requests.per.connection", o.get("inflight"));
        byte[][] values = new byte[POOL][], keys = new byte[KEYS][];
        for (int i = 0; i < POOL; i++) values[i] = payload(i, size);
        for (int i = 0; i < KEYS; i++) keys[i] = String.format("%016x", splitmix(i)).getBytes(StandardCharsets.ISO_8859_1);
        if (o.containsKey("dump")) {
            for (byte[] v : values) System.out.write(v);
            System.out.flush();
            return;
        }
        String topic = o.getOrDefault("topic", "bench");
        int n = Integer.parseInt(o.getOrDefault("records", "1000000"));
        int warm = Integer.parseInt(o.getOrDefault("warmup", "0"));
        int sample = Integer.parseInt(o.getOrDefault("sample", "1"));
        double rate = Double.parseDouble(o.getOrDefault("rate", "0"));
        boolean keyed = o.getOrDefault("key-mode", "none").equals("random");
        try (Producer<byte[], byte[]> p = new KafkaProducer<>(c)) {
            run(p, topic, warm, 0, 1, keyed, values, keys, false);
            double[] c0 = cpu();
            long t0 = System.nanoTime();
            run(p, topic, n, rate, sample, keyed, values, keys, true);
            double s = (System.nanoTime() - t0) / 1e9;
            double[] c1 = cpu();
            double u = c1[0] - c0[0], y = c1[1] - c0[1];
            long ok = OK.get();
            System.out.printf(Locale.ROOT, "{\"peer\":\"java\",\"records\":%d,\"seconds\":%.4f,\"records_per_s\":%.0f,"
                + "\"mb_per_s\":%.2f,\"user_s\":%.3f,\"sys_s\":%.3f,\"cpu_us_per_record\":%.4f,\"total_user_s\":%.3f,"
                + "\"total_sys_s\":%.3f,\"max_rss_kb\":%d,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f,"
                + "\"errors\":%d}%n", ok, s, ok / s, ok * (double) size / s / 1e6, u, y, (u + y) * 1e6 / Math.max(1, ok),
                c1[0], c1[1], maxRss(), q(.5), q(.99), q(.999), MAX.get() / 1e6, BAD.get());
        }
    }
}
