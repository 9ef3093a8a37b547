import java.io.PrintWriter;
import org.apache.kafka.common.errors.ClusterAuthorizationException;
import org.apache.kafka.common.errors.InvalidMetadataException;
import org.apache.kafka.common.errors.InvalidPidMappingException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.TransactionalIdAuthorizationException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.protocol.Errors;

/**
 * Writes every error code of the Java client, its name, and the class of its exception as the
 * producer sees it, tab-separated: the columns code, name and java of verdicts.tsv. Which
 * exceptions are fatal is TransactionManager.maybeTransitionToErrorState's list.
 */
public class ErrorCodes {
    public static void main(String[] args) throws Exception {
        try (PrintWriter out = new PrintWriter(args[0], "UTF-8")) {
            for (Errors error : Errors.values()) {
                out.print(error.code() + "\t" + error.name() + "\t" + kind(error.exception()) + "\n");
            }
        }
    }

    static String kind(Exception e) {
        if (e == null) return "none";
        if (e instanceof InvalidMetadataException) return "retriable+refresh";
        if (e instanceof RetriableException) return "retriable";
        boolean fatal = e instanceof ClusterAuthorizationException
            || e instanceof TransactionalIdAuthorizationException
            || e instanceof ProducerFencedException
            || e instanceof UnsupportedVersionException
            || e instanceof InvalidPidMappingException;
        return fatal ? "fatal" : "permanent";
    }
}
