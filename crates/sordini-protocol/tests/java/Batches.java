import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;

import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.RecordBatch;

/**
 * Record batches as the Java client writes them, one a line: codec, kind, hex. What the records
 * hold is told again in golden.rs.
 *
 * Argument: the file to write. Run by `cargo xtask golden`.
 */
public class Batches {
    public static void main(String[] args) throws Exception {
        try (PrintStream out = new PrintStream(args[0], StandardCharsets.UTF_8)) {
            for (String codec : new String[] {"none", "gzip", "snappy", "lz4", "zstd"}) {
                print(out, codec, "small", small(codec, TimestampType.CREATE_TIME, false));
                print(out, codec, "append-time", small(codec, TimestampType.LOG_APPEND_TIME, false));
                print(out, codec, "transactional", small(codec, TimestampType.CREATE_TIME, true));
                if (!codec.equals("none")) {
                    print(out, codec, "large", large(codec));
                }
            }
            print(out, "none", "commit", marker(ControlRecordType.COMMIT));
            print(out, "none", "abort", marker(ControlRecordType.ABORT));
        }
    }

    static void print(PrintStream out, String codec, String kind, MemoryRecords records) {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        out.printf("%s %s %s%n", codec, kind, HexFormat.of().formatHex(bytes));
    }

    static MemoryRecordsBuilder builder(String codec, TimestampType type, boolean transactional) {
        return MemoryRecords.builder(ByteBuffer.allocate(1 << 20), RecordBatch.MAGIC_VALUE_V2,
            Compression.of(codec).build(), type, 77L, 1_800_000_000_123L, 4711L, (short) 3, 42,
            transactional, 9);
    }

    static MemoryRecords small(String codec, TimestampType type, boolean transactional) {
        MemoryRecordsBuilder builder = builder(codec, type, transactional);
        Header[] headers = {
            new RecordHeader("trace", "\u00e4bc".getBytes(StandardCharsets.UTF_8)),
            new RecordHeader("trace", null),
            new RecordHeader("", new byte[0]),
        };
        builder.append(1_700_000_000_500L, "key".getBytes(), "value".getBytes(), headers);
        builder.append(1_700_000_000_000L, null, new byte[0]);
        builder.append(1_700_000_009_999L, new byte[0], null);
        return builder.build();
    }

    static MemoryRecords large(String codec) {
        MemoryRecordsBuilder builder = builder(codec, TimestampType.CREATE_TIME, false);
        for (int i = 0; i < 1000; i++) {
            String value = "{\"event\":\"view\",\"page\":" + (i % 17) + ",\"user\":\"someone-"
                + (i * 7919 % 101) + "\",\"agent\":\"a browser of the usual kind\"}";
            builder.append(1_700_000_000_000L + i, ("k" + i % 10).getBytes(), value.getBytes());
        }
        return builder.build();
    }

    static MemoryRecords marker(ControlRecordType type) {
        return MemoryRecords.withEndTransactionMarker(77L, 1_700_000_000_000L, 9, 4711L, (short) 3,
            new EndTransactionMarker(type, 5));
    }
}
