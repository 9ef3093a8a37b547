import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.record.internal.BaseRecords;
import org.apache.kafka.common.record.internal.MemoryRecords;

/**
 * Serialises samples of Kafka's messages with the Java client, one a line:
 * message, version, kind of sample, hex.
 *
 * Kinds: "default" is what the constructor makes (but null for nullable strings); "empty" has
 * zeros, nulls, and nothing in arrays; "named" has every field set to a value that follows from
 * the field's name, so that a field read into the wrong place is seen.
 *
 * Arguments: the file to write, then the names of the APIs. Run by `cargo xtask golden`.
 */
public class Messages {
    public static void main(String[] args) throws Exception {
        try (PrintStream out = new PrintStream(args[0], StandardCharsets.UTF_8)) {
            samples(out, "RequestHeader", RequestHeaderData.class, RequestHeaderData.SCHEMAS, 1, 2);
            samples(out, "ResponseHeader", ResponseHeaderData.class, ResponseHeaderData.SCHEMAS, 0, 1);
            for (int i = 1; i < args.length; i++) {
                ApiMessageType api = null;
                for (ApiMessageType candidate : ApiMessageType.values()) {
                    if (candidate.name.equals(args[i])) {
                        api = candidate;
                    }
                }
                int low = api.lowestSupportedVersion();
                int high = api.highestSupportedVersion(true);
                samples(out, args[i] + "Request", api.newRequest().getClass(), api.requestSchemas(), low, high);
                samples(out, args[i] + "Response", api.newResponse().getClass(), api.responseSchemas(), low, high);
            }
        }
    }

    static void samples(PrintStream out, String name, Class<?> type, Schema[] schemas, int low, int high)
            throws Exception {
        for (int version = low; version <= high; version++) {
            for (String kind : new String[] {"default", "empty", "named"}) {
                Message message = (Message) type.getDeclaredConstructor().newInstance();
                fill(message, schemas[version], kind);
                ObjectSerializationCache cache = new ObjectSerializationCache();
                ByteBuffer bytes = ByteBuffer.allocate(message.size(cache, (short) version));
                message.write(new ByteBufferAccessor(bytes), cache, (short) version);
                out.printf("%s %d %s %s%n", name, version, kind, HexFormat.of().formatHex(bytes.array()));
            }
        }
    }

    static void fill(Object target, Schema schema, String kind) throws Exception {
        for (BoundField bound : schema.fields()) {
            if (bound.def.type instanceof TaggedFields tagged) {
                if (kind.equals("named")) {
                    for (org.apache.kafka.common.protocol.types.Field field : tagged.fields().values()) {
                        set(target, field, kind);
                    }
                }
            } else {
                set(target, bound.def, kind);
            }
        }
    }

    static void set(Object target, org.apache.kafka.common.protocol.types.Field def, String kind) throws Exception {
        Field field = target.getClass().getDeclaredField(camelCase(def.name));
        field.setAccessible(true);
        boolean nullable = def.type.isNullable();
        if (kind.equals("default")) {
            if (nullable && field.getType() == String.class) {
                field.set(target, null);
            }
        } else if (kind.equals("empty") && nullable) {
            field.set(target, null);
        } else {
            field.set(target, value(field.getType(), field.getGenericType(), def.name, def.type, kind));
        }
    }

    static Object value(Class<?> type, Type generic, String name,
            org.apache.kafka.common.protocol.types.Type wire, String kind) throws Exception {
        boolean named = kind.equals("named");
        long number = named ? number(name) : 0;
        if (type == boolean.class) {
            return named;
        } else if (type == byte.class || type == Byte.class) {
            return (byte) number;
        } else if (type == short.class || type == Short.class) {
            return (short) number;
        } else if (type == int.class || type == Integer.class) {
            // A uint16 is an int in Java.
            return wire.toString().equals("UINT16") ? (int) (number & 0xffff) : (int) number;
        } else if (type == long.class || type == Long.class) {
            return number;
        } else if (type == String.class) {
            return named ? name + "-\u00fc" : "";
        } else if (type == Uuid.class) {
            return named ? new Uuid(number, ~number) : Uuid.ZERO_UUID;
        } else if (type == byte[].class) {
            return bytes(name, named);
        } else if (type == BaseRecords.class) {
            return MemoryRecords.readableRecords(ByteBuffer.wrap(bytes(name, named)));
        } else if (Collection.class.isAssignableFrom(type)) {
            return elements(type, generic, name, wire, kind);
        }
        Object struct = type.getDeclaredConstructor().newInstance();
        fill(struct, (Schema) wire, kind);
        return struct;
    }

    @SuppressWarnings("unchecked")
    static Object elements(Class<?> type, Type generic, String name,
            org.apache.kafka.common.protocol.types.Type wire, String kind) throws Exception {
        // Maps by key are collections of their own class, which names its element.
        boolean isList = type == List.class;
        Type holder = isList ? generic : type.getGenericSuperclass();
        Type element = ((ParameterizedType) holder).getActualTypeArguments()[0];
        Collection<Object> elements =
            isList ? new ArrayList<>() : (Collection<Object>) type.getDeclaredConstructor().newInstance();
        for (int i = 0; kind.equals("named") && i < 2; i++) {
            Class<?> elementClass = (Class<?>) (element instanceof ParameterizedType p ? p.getRawType() : element);
            elements.add(value(elementClass, element, name, wire.arrayElementType().get(), kind));
        }
        return elements;
    }

    static byte[] bytes(String name, boolean named) {
        return named ? ByteBuffer.allocate(8).putLong(number(name)).array() : new byte[0];
    }

    /** FNV-1a of the name, spread over 64 bits. */
    static long number(String name) {
        int hash = 0x811c9dc5;
        for (byte b : name.getBytes(StandardCharsets.UTF_8)) {
            hash = (hash ^ (b & 0xff)) * 0x01000193;
        }
        return (hash & 0xffffffffL) * 0x9e3779b97f4a7c15L;
    }

    static String camelCase(String name) {
        StringBuilder out = new StringBuilder();
        boolean upper = false;
        for (char c : name.toCharArray()) {
            if (c == '_') {
                upper = true;
            } else {
                out.append(upper ? Character.toUpperCase(c) : c);
                upper = false;
            }
        }
        return out.toString();
    }
}
