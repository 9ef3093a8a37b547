// Prints each public setting of the Java producer with its default, one a line, tab-separated.
// Run it with the jars of kafka-clients 4.4.0 on the class path:
//   java -cp "$JARS" ProducerConfigTable.java > producer-config-4.4.0.tsv
import java.util.TreeMap;
import org.apache.kafka.clients.producer.ProducerConfig;

public class ProducerConfigTable {
    public static void main(String[] args) {
        for (var key : new TreeMap<>(ProducerConfig.configDef().configKeys()).values()) {
            Object value = key.hasDefault() ? key.defaultValue : "(required)";
            System.out.println(key.name + "\t" + key.type + "\t" + value);
        }
    }
}
