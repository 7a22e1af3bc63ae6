package bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.StreamWriteFeature;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** The same by hand: JSON token by token where JSON is asked for, plain numbers in the stores. */
final class Fast {
    private static final JsonFactory FACTORY = JsonFactory.builder()
        .enable(StreamReadFeature.USE_FAST_DOUBLE_PARSER)
        .enable(StreamWriteFeature.USE_FAST_DOUBLE_WRITER)
        .build();

    private Fast() {}

    static Serde<Transaction> transactions() {
        return Serdes.serdeFrom(
            (topic, value) -> {
                throw new UnsupportedOperationException("payments are only read");
            },
            (topic, bytes) -> {
                try (JsonParser parser = FACTORY.createParser(bytes)) {
                    return read(parser);
                } catch (IOException error) {
                    throw new UncheckedIOException(error);
                }
            });
    }

    static Serde<Prediction> predictions() {
        return Serdes.serdeFrom(
            (topic, value) -> {
                ByteArrayOutputStream out = new ByteArrayOutputStream(256);
                try (JsonGenerator json = FACTORY.createGenerator(out)) {
                    write(json, value);
                } catch (IOException error) {
                    throw new UncheckedIOException(error);
                }
                return out.toByteArray();
            },
            (topic, bytes) -> {
                throw new UnsupportedOperationException("predictions are only written");
            });
    }

    static Serde<Past> pasts() {
        return Serdes.serdeFrom(
            (topic, past) -> {
                int length = past.minutes.length;
                ByteBuffer out = ByteBuffer.allocate(length * 20);
                for (int i = 0; i < length; i++) {
                    out.putLong(past.minutes[i]).putInt(past.counts[i]).putDouble(past.sums[i]);
                }
                return out.array();
            },
            (topic, bytes) -> {
                if (bytes == null) {
                    return null;
                }
                ByteBuffer in = ByteBuffer.wrap(bytes);
                int length = bytes.length / 20;
                Past past = new Past();
                past.minutes = new long[length];
                past.counts = new int[length];
                past.sums = new double[length];
                for (int i = 0; i < length; i++) {
                    past.minutes[i] = in.getLong();
                    past.counts[i] = in.getInt();
                    past.sums[i] = in.getDouble();
                }
                return past;
            });
    }

    static Serde<Learner> learners() {
        return Serdes.serdeFrom(
            (topic, learner) -> {
                ByteBuffer out = ByteBuffer.allocate(16 + Features.COUNT * 24);
                out.putLong(learner.count).putDouble(learner.intercept);
                for (int i = 0; i < Features.COUNT; i++) {
                    out.putDouble(learner.means[i]).putDouble(learner.variances[i]).putDouble(learner.weights[i]);
                }
                return out.array();
            },
            (topic, bytes) -> {
                if (bytes == null) {
                    return null;
                }
                ByteBuffer in = ByteBuffer.wrap(bytes);
                Learner learner = new Learner();
                learner.count = in.getLong();
                learner.intercept = in.getDouble();
                for (int i = 0; i < Features.COUNT; i++) {
                    learner.means[i] = in.getDouble();
                    learner.variances[i] = in.getDouble();
                    learner.weights[i] = in.getDouble();
                }
                return learner;
            });
    }

    private static Transaction read(JsonParser parser) throws IOException {
        String id = null;
        String card = null;
        String merchant = null;
        String country = null;
        double at = 0;
        double amount = 0;
        double lat = 0;
        double lon = 0;
        int label = 0;
        parser.nextToken();
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String name = parser.currentName();
            parser.nextToken();
            switch (name) {
                case "id" -> id = parser.getText();
                case "at" -> at = parser.getDoubleValue();
                case "card" -> card = parser.getText();
                case "merchant" -> merchant = parser.getText();
                case "amount" -> amount = parser.getDoubleValue();
                case "lat" -> lat = parser.getDoubleValue();
                case "lon" -> lon = parser.getDoubleValue();
                case "country" -> country = parser.getText();
                case "label" -> label = parser.getIntValue();
                default -> parser.skipChildren();
            }
        }
        return new Transaction(id, at, card, merchant, amount, lat, lon, country, label);
    }

    private static void write(JsonGenerator json, Prediction prediction) throws IOException {
        json.writeStartObject();
        json.writeStringField("id", prediction.id());
        json.writeNumberField("at", prediction.at());
        json.writeStringField("card", prediction.card());
        json.writeNumberField("score", prediction.score());
        json.writeNumberField("static", prediction.staticScore());
        json.writeNumberField("online", prediction.online());
        json.writeStringField("model", prediction.model());
        json.writeStringField("version", prediction.version());
        json.writeEndObject();
    }
}
