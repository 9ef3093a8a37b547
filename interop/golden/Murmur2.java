import java.io.DataOutputStream;
import java.io.FileOutputStream;
import java.util.Random;
import org.apache.kafka.common.utils.Utils;

/**
 * Writes what Kafka's Java client answers for murmur2 and for the partition of a key, over keys of
 * every length from 0 to 64: every key of one byte, and 160 keys of random bytes (fixed seed) of
 * each other length, so that every byte value stands at every place of a word and of a tail.
 *
 * <p>Big-endian: the number of vectors (u32), the number of partition counts (u8), the counts
 * (u16 each); then for each vector the key's length (u8), the key, murmur2 (i32), and for each
 * count toPositive(murmur2) % count (u16).
 */
public class Murmur2 {
    static final int[] COUNTS = {1, 3, 6, 7, 100, 1000};
    static final int LONGEST = 64;
    static final int KEYS_PER_LENGTH = 160;

    public static void main(String[] args) throws Exception {
        Random random = new Random(20_260_822L);
        try (DataOutputStream out = new DataOutputStream(new FileOutputStream(args[0]))) {
            out.writeInt(1 + 256 + (LONGEST - 1) * KEYS_PER_LENGTH);
            out.writeByte(COUNTS.length);
            for (int count : COUNTS) out.writeShort(count);
            vector(out, new byte[0]);
            for (int b = 0; b < 256; b++) vector(out, new byte[] {(byte) b});
            for (int length = 2; length <= LONGEST; length++) {
                for (int i = 0; i < KEYS_PER_LENGTH; i++) {
                    byte[] key = new byte[length];
                    random.nextBytes(key);
                    vector(out, key);
                }
            }
        }
    }

    static void vector(DataOutputStream out, byte[] key) throws Exception {
        int hash = Utils.murmur2(key);
        out.writeByte(key.length);
        out.write(key);
        out.writeInt(hash);
        for (int count : COUNTS) out.writeShort(Utils.toPositive(hash) % count);
    }
}
