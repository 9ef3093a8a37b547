import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

/**
 * Transactions with the Java client alone: the programs that sordini's own (interop/src/bin/txn) are
 * held against, so with the same arguments, logs and exit codes, and the judges' own test.
 * Exit codes: 0 done; 3 this producer is done for (fenced); 4 a promise is broken; 1 anything else.
 */
@SuppressWarnings("removal") // ConsumerGroupMetadata's constructors, without which nobody can name a member
public class Txn {
    static final String USAGE = """
        txn write --bootstrap B --topic T --partitions P --id ID --log FILE --transactions N --rate R
            Numbers 0 to N-1, each in one transaction to all partitions; every fifth is aborted.
            Intent and outcome stand in FILE, each on the disk before what follows. The end of standard
            input ends it after the transaction at hand.
        txn steps --bootstrap B --topic T --partitions P --id ID
            Does what standard input says, a line each, and answers each with a line: init, begin,
            send NUMBER, offsets GROUP PARTITION OFFSET, commit, abort.
        txn copy --bootstrap B --from T --to T --partitions P --id ID --group G --per N
                 [--member M --generation G [--instance I]]
            Each record of --from to the same partition of --to, its value behind "copy of ", from
            the group's committed offsets to the end, at most N records in a transaction; a line for
            each that committed.
        txn member --bootstrap B --topic T --group G [--protocol classic|consumer] [--instance I]
            Joins the group and says as whom, one line of JSON each time that changes, until standard
            input ends.
        txn where --bootstrap B
            Answers standard input's lines with a node's number each: leader TOPIC PARTITION,
            transaction ID, group ID (whose coordinator); or with "nobody" and why.
        txn committed --bootstrap B --topic T --partitions P --group G
            The group's committed offsets, one JSON array; stable ones, or it waits.
        txn bench --bootstrap B --topic T --partitions P --id ID --records N --per N --size BYTES
            Produces; --per 0: without transactions. One line of JSON.
        -X NAME=VALUE: a setting of the producer.
        """;

    static final class Args {
        final Map<String, String> all = new HashMap<>();
        final Map<String, String> settings = new LinkedHashMap<>();
        Args(String[] args) {
            for (int i = 1; i < args.length; i += 2) {
                if (i + 1 == args.length || !args[i].startsWith("-")) usage("what is " + args[i] + "?");
                if (args[i].equals("-X")) {
                    String[] parts = args[i + 1].split("=", 2);
                    settings.put(parts[0], parts[1]);
                } else all.put(args[i].substring(2), args[i + 1]);
            }
        }
        String get(String name) {
            if (!all.containsKey(name)) usage("--" + name + " is missing");
            return all.get(name);
        }
        int number(String name) { return Integer.parseInt(get(name)); }
        Optional<String> maybe(String name) { return Optional.ofNullable(all.get(name)); }
    }

    static void usage(String why) {
        System.err.println("txn: " + why + "\n" + USAGE);
        System.exit(2);
    }

    public static void main(String[] args) throws Exception {
        if (args.length == 0) usage("what?");
        Args given = new Args(args);
        switch (args[0]) {
            case "write" -> write(given);
            case "steps" -> steps(given);
            case "copy" -> copy(given);
            case "member" -> member(given);
            case "where" -> where(given);
            case "committed" -> committed(given);
            case "bench" -> bench(given);
            default -> usage("what is " + args[0] + "?");
        }
        System.exit(0);
    }

    static KafkaProducer<byte[], byte[]> producer(Args args, boolean transactional) {
        Properties p = new Properties();
        p.put("bootstrap.servers", args.get("bootstrap"));
        if (transactional) p.put("transactional.id", args.get("id"));
        p.putAll(args.settings);
        return new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(Args args, Map<String, String> settings) {
        Properties p = new Properties();
        p.put("bootstrap.servers", args.get("bootstrap"));
        p.put("isolation.level", "read_committed");
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "earliest");
        p.put("allow.auto.create.topics", "false");
        p.putAll(settings);
        return new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static List<TopicPartition> partitions(String topic, int count) {
        List<TopicPartition> all = new ArrayList<>();
        for (int i = 0; i < count; i++) all.add(new TopicPartition(topic, i));
        return all;
    }

    static byte[] bytes(String text) { return text.getBytes(StandardCharsets.UTF_8); }

    static boolean isFatal(Throwable e) {
        return e instanceof ProducerFencedException || e instanceof InvalidProducerEpochException
            || e instanceof OutOfOrderSequenceException || e instanceof AuthorizationException
            || e instanceof UnsupportedVersionException || e instanceof IllegalStateException;
    }

    /** Commit's time-out says nothing; the same call again says what became of it. */
    static void commit(KafkaProducer<byte[], byte[]> producer) {
        for (int tries = 0; ; tries++) {
            try { producer.commitTransaction(); return; }
            catch (TimeoutException e) { if (tries == 5) throw e; }
        }
    }

    static void abort(KafkaProducer<byte[], byte[]> producer) {
        for (int tries = 0; ; tries++) {
            try { producer.abortTransaction(); return; }
            catch (TimeoutException e) { if (tries == 5) throw e; }
        }
    }

    static void done(String message) {
        System.err.println("txn: " + message);
        System.exit(3);
    }

    // ---- write ---------------------------------------------------------------------------------

    static final class Log implements Closeable {
        final FileOutputStream out;
        Log(Path path) throws IOException { out = new FileOutputStream(path.toFile(), true); }
        void line(String text) throws IOException {
            out.write(bytes(text + "\n"));
            out.getFD().sync();
        }
        public void close() throws IOException { out.close(); }
    }

    static void write(Args args) throws Exception {
        String topic = args.get("topic");
        int partitions = args.number("partitions"), count = args.number("transactions");
        Path path = Path.of(args.get("log"));
        int next = 0;
        SortedSet<Integer> doubtful = new TreeSet<>();
        if (Files.exists(path)) {
            String text = Files.readString(path);
            // The kill may have come in the middle of a line.
            int whole = text.lastIndexOf('\n') + 1;
            if (whole < text.length()) {
                Files.writeString(path, text.substring(0, whole));
            }
            for (String line : text.substring(0, whole).split("\n")) {
                String[] words = line.split(" ");
                switch (words[0]) {
                    case "intent" -> {
                        next = Integer.parseInt(words[1]) + 1;
                        if (words[2].equals("commit")) doubtful.add(next - 1);
                    }
                    case "outcome" -> { if (!words[2].equals("unknown")) doubtful.remove(Integer.parseInt(words[1])); }
                    case "found" -> doubtful.remove(Integer.parseInt(words[1]));
                    default -> { }
                }
            }
        }
        try (Log log = new Log(path); var producer = producer(args, true)) {
            log.line("start");
            init(producer);
            resolve(args, log, doubtful);
            var asked = untilInputEnds(() -> { });
            long begun = System.nanoTime();
            for (int first = next; next < count && asked.isAlive(); next++) {
                long due = begun + (next - first) * 1_000_000_000L / args.number("rate");
                long wait = due - System.nanoTime();
                if (wait > 0) TimeUnit.NANOSECONDS.sleep(wait);
                writeOne(producer, log, topic, partitions, next);
            }
            log.line("end");
        }
    }

    static void init(KafkaProducer<byte[], byte[]> producer) {
        for (int tries = 0; ; tries++) {
            try { producer.initTransactions(); return; }
            catch (TimeoutException e) { if (tries == 5) throw e; }
        }
    }

    static void writeOne(KafkaProducer<byte[], byte[]> producer, Log log, String topic, int partitions, int number) throws Exception {
        boolean commits = number % 5 != 4;
        log.line("intent " + number + (commits ? " commit" : " abort"));
        String outcome = commits ? "committed" : "aborted";
        try {
            producer.beginTransaction();
            for (int p = 0; p < partitions; p++) producer.send(new ProducerRecord<>(topic, p, null, bytes("" + number)));
            if (commits) commit(producer);
            else {
                // Every other one with its batches on the way still.
                if (number % 2 == 0) producer.flush();
                abort(producer);
            }
        } catch (KafkaException e) {
            System.err.println("txn: " + number + ": " + e);
            if (isFatal(e)) { log.line("outcome " + number + " unknown"); done("fatal"); }
            if (e instanceof TimeoutException) { log.line("outcome " + number + " unknown"); System.exit(1); }
            abort(producer);
            outcome = "aborted";
        }
        log.line("outcome " + number + " " + outcome);
    }

    /** What was in doubt at the kill: after initTransactions it is there in all partitions or in none. */
    static void resolve(Args args, Log log, Set<Integer> doubtful) throws Exception {
        if (doubtful.isEmpty()) return;
        int partitions = args.number("partitions");
        Map<Integer, Set<Integer>> found = new TreeMap<>();
        doubtful.forEach(number -> found.put(number, new TreeSet<>()));
        try (var consumer = consumer(args, Map.of())) {
            var all = partitions(args.get("topic"), partitions);
            consumer.assign(all);
            consumer.seekToBeginning(all);
            var ends = consumer.endOffsets(all);
            while (all.stream().anyMatch(tp -> consumer.position(tp) < ends.get(tp))) {
                for (var r : consumer.poll(Duration.ofMillis(200))) {
                    var seen = found.get(Integer.parseInt(new String(r.value(), StandardCharsets.UTF_8)));
                    if (seen != null && !seen.add(r.partition())) { System.err.println("txn: twice: " + r); System.exit(4); }
                }
            }
        }
        for (var e : found.entrySet()) {
            int seen = e.getValue().size();
            String word = seen == 0 ? "none" : seen == partitions ? "all" : "torn";
            log.line("found " + e.getKey() + " " + word);
            if (word.equals("torn")) { System.err.println("txn: " + e + " is torn"); System.exit(4); }
        }
    }

    // ---- steps ---------------------------------------------------------------------------------

    static void steps(Args args) throws Exception {
        var in = new BufferedReader(new InputStreamReader(System.in));
        try (var producer = producer(args, true)) {
            for (String line; (line = in.readLine()) != null; ) {
                String answer = "ok";
                try { step(args, producer, line.split(" ")); }
                catch (ProducerFencedException | InvalidProducerEpochException e) { answer = "fenced " + e.getMessage(); }
                catch (Exception e) {
                    boolean fenced = e.getCause() instanceof ProducerFencedException || e.getCause() instanceof InvalidProducerEpochException;
                    answer = (fenced ? "fenced " : "failed ") + e;
                }
                System.out.println(answer.replace('\n', ' '));
            }
        }
    }

    static void step(Args args, KafkaProducer<byte[], byte[]> producer, String[] words) throws Exception {
        switch (words[0]) {
            case "init" -> producer.initTransactions();
            case "begin" -> producer.beginTransaction();
            case "send" -> {
                List<Future<RecordMetadata>> sent = new ArrayList<>();
                for (int p = 0; p < args.number("partitions"); p++)
                    sent.add(producer.send(new ProducerRecord<>(args.get("topic"), p, null, bytes(words[1]))));
                for (var one : sent) one.get();
            }
            case "offsets" -> producer.sendOffsetsToTransaction(
                Map.of(new TopicPartition(args.get("topic"), Integer.parseInt(words[2])), new OffsetAndMetadata(Long.parseLong(words[3]))),
                alone(words[1]));
            case "commit" -> producer.commitTransaction();
            case "abort" -> producer.abortTransaction();
            default -> throw new IllegalArgumentException("what is " + words[0] + "?");
        }
    }

    /** Of a consumer that is assigned its partitions, and so no member. */
    static ConsumerGroupMetadata alone(String group) { return new ConsumerGroupMetadata(group, -1, "", Optional.empty()); }

    // ---- copy ----------------------------------------------------------------------------------

    static void copy(Args args) throws Exception {
        var group = args.get("group");
        var as = args.maybe("member").map(member ->
            new ConsumerGroupMetadata(group, args.number("generation"), member, args.maybe("instance"))).orElse(alone(group));
        var all = partitions(args.get("from"), args.number("partitions"));
        try (var producer = producer(args, true);
             var consumer = consumer(args, Map.of("group.id", group, "max.poll.records", args.get("per")))) {
            init(producer);
            consumer.assign(all);
            rewind(consumer, all);
            var ends = consumer.endOffsets(all);
            while (all.stream().anyMatch(tp -> consumer.position(tp) < ends.get(tp))) {
                var read = consumer.poll(Duration.ofMillis(200));
                if (read.isEmpty()) continue;
                try {
                    producer.beginTransaction();
                    for (var r : read)
                        producer.send(new ProducerRecord<>(args.get("to"), r.partition(), r.key(), bytes("copy of " + new String(r.value(), StandardCharsets.UTF_8))));
                    Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                    for (var tp : read.partitions()) offsets.put(tp, new OffsetAndMetadata(consumer.position(tp)));
                    producer.sendOffsetsToTransaction(offsets, as);
                    commit(producer);
                    System.out.println("committed " + read.count());
                } catch (KafkaException e) {
                    System.err.println("txn: " + e);
                    if (isFatal(e)) done("fatal");
                    if (e instanceof TimeoutException) System.exit(1);
                    abort(producer);
                    rewind(consumer, all);
                }
            }
        }
    }

    static void rewind(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> all) {
        var committed = consumer.committed(new HashSet<>(all));
        for (var tp : all) {
            var at = committed.get(tp);
            if (at == null) consumer.seekToBeginning(List.of(tp)); else consumer.seek(tp, at);
        }
    }

    // ---- member, where, committed ---------------------------------------------------------------------

    static void member(Args args) throws Exception {
        Map<String, String> settings = new HashMap<>(Map.of("group.id", args.get("group"),
            "group.protocol", args.maybe("protocol").orElse("classic")));
        args.maybe("instance").ifPresent(it -> settings.put("group.instance.id", it));
        String before = "";
        try (var consumer = consumer(args, settings)) {
            consumer.subscribe(List.of(args.get("topic")));
            untilInputEnds(consumer::wakeup);
            while (true) {
                consumer.poll(Duration.ofMillis(100));
                // Its records are somebody else's work.
                consumer.pause(consumer.assignment());
                var it = consumer.groupMetadata();
                if (consumer.assignment().isEmpty() || it.memberId().isEmpty()) continue;
                String now = "{\"group\":\"" + it.groupId() + "\",\"member\":\"" + it.memberId() + "\",\"generation\":" + it.generationId()
                    + ",\"instance\":" + it.groupInstanceId().map(id -> '"' + id + '"').orElse("null") + "}";
                if (!now.equals(before)) System.out.println(now);
                before = now;
            }
        } catch (WakeupException e) { /* asked to end */ }
    }

    /** A thread that lives until standard input ends, and then does one thing more. */
    static Thread untilInputEnds(Runnable then) {
        var watch = new Thread(() -> {
            try { while (System.in.read() >= 0) { } } catch (IOException e) { /* it ends as well */ }
            then.run();
        });
        watch.setDaemon(true);
        watch.start();
        return watch;
    }

    static void where(Args args) throws Exception {
        var in = new BufferedReader(new InputStreamReader(System.in));
        try (var admin = Admin.create(Map.of("bootstrap.servers", args.get("bootstrap"), "default.api.timeout.ms", "15000", "request.timeout.ms", "4000"))) {
            for (String line; (line = in.readLine()) != null; ) {
                String answer;
                try { answer = "" + where(admin, line.split(" ")); }
                catch (Exception e) { answer = "nobody " + e; }
                System.out.println(answer.replace('\n', ' '));
            }
        }
    }

    static int where(Admin admin, String[] words) throws Exception {
        String name = words[1];
        return switch (words[0]) {
            case "leader" -> admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().get(Integer.parseInt(words[2])).leader().id();
            case "transaction" -> admin.describeTransactions(List.of(name)).description(name).get().coordinatorId();
            case "group" -> admin.describeConsumerGroups(List.of(name)).describedGroups().get(name).get().coordinator().id();
            default -> throw new IllegalArgumentException("what is " + words[0] + "?");
        };
    }

    static void committed(Args args) throws Exception {
        try (var consumer = consumer(args, Map.of("group.id", args.get("group")))) {
            var all = partitions(args.get("topic"), args.number("partitions"));
            var committed = consumer.committed(new HashSet<>(all));
            StringJoiner out = new StringJoiner(",", "[", "]");
            for (var tp : all) out.add(committed.get(tp) == null ? "null" : "" + committed.get(tp).offset());
            System.out.println(out);
        }
    }

    // ---- bench ---------------------------------------------------------------------------------

    static void bench(Args args) throws Exception {
        String topic = args.get("topic");
        int partitions = args.number("partitions"), records = args.number("records"), per = args.number("per");
        byte[] value = new byte[args.number("size")];
        new Random(1).nextBytes(value);
        try (var producer = producer(args, per > 0)) {
            if (per > 0) init(producer);
            // A tenth more, before the clock starts: compilers and connections.
            run(producer, topic, partitions, value, Math.max(records / 10, per), per, new ArrayList<>());
            List<Long> commits = new ArrayList<>();
            long begun = System.nanoTime();
            run(producer, topic, partitions, value, records, per, commits);
            double seconds = (System.nanoTime() - begun) / 1e9;
            Collections.sort(commits);
            System.out.println(String.format(Locale.ROOT,
                "{\"client\":\"java\",\"records\":%d,\"per\":%d,\"size\":%d,\"seconds\":%.3f,\"records_per_second\":%.0f,\"transactions\":%d"
                + ",\"commit_ms\":{\"p50\":%s,\"p99\":%s,\"max\":%s}}", records, per, value.length, seconds, records / seconds,
                commits.size(), ms(commits, 0.5), ms(commits, 0.99), ms(commits, 1)));
        }
    }

    static String ms(List<Long> sorted, double part) {
        if (sorted.isEmpty()) return "null";
        return String.format(Locale.ROOT, "%.3f", sorted.get((int) Math.ceil(part * sorted.size()) - 1) / 1e6);
    }

    static void run(KafkaProducer<byte[], byte[]> producer, String topic, int partitions, byte[] value, int records, int per, List<Long> commits) throws Exception {
        var failed = new AtomicReference<Exception>();
        for (int i = 0; i < records; i++) {
            if (per > 0 && i % per == 0) producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, i % partitions, null, value), (metadata, e) -> { if (e != null) failed.set(e); });
            if (per > 0 && (i % per == per - 1 || i == records - 1)) {
                // What commitTransaction does first, so that its latency is the protocol's alone.
                producer.flush();
                long at = System.nanoTime();
                producer.commitTransaction();
                commits.add(System.nanoTime() - at);
            }
        }
        producer.flush();
        if (failed.get() != null) throw failed.get();
    }
}
