import org.apache.kafka.common.errors.InvalidMetadataException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.Errors;

/** Prints the table of error codes; run by `cargo xtask codegen --extract`. */
public class Facts {
    public static void main(String[] args) {
        for (Errors error : Errors.values()) {
            Throwable exception = error.exception();
            System.out.println(error.code() + " " + error.name() + " "
                + (exception instanceof RetriableException) + " "
                + (exception instanceof InvalidMetadataException));
        }
    }
}
