package bench;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** Kafka Streams with the whole job: exactly once, windows and learners in RocksDB, as it comes or tuned. */
public final class Job {
    private Job() {}

    public static void main(String[] arguments) {
        List<String> given = List.of(arguments);
        boolean tuned = given.contains("--tuned");
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i + 1 < given.size(); i++) {
            options.put(given.get(i), given.get(i + 1));
        }
        Topology topology = topology(options.get("--in-topic"), options.get("--out-topic"), tuned);
        KafkaStreams streams = new KafkaStreams(topology, settings(options, tuned));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
        streams.start();
    }

    private static Topology topology(String in, String out, boolean tuned) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(store(Scoring.PASTS, tuned ? Fast.pasts() : Json.of(Past.class), tuned));
        builder.addStateStore(store(Scoring.LEARNERS, tuned ? Fast.learners() : Json.of(Learner.class), tuned));
        builder
            .stream(in, Consumed.with(Serdes.String(), tuned ? Fast.transactions() : Json.of(Transaction.class)))
            .process(Scoring::new, Scoring.PASTS, Scoring.LEARNERS)
            .to(out, Produced.with(Serdes.String(), tuned ? Fast.predictions() : Json.of(Prediction.class)));
        return builder.build();
    }

    private static <T> StoreBuilder<KeyValueStore<String, T>> store(String name, Serde<T> serde, boolean cached) {
        var store = Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), Serdes.String(), serde);
        // With the cache a key that changes often is written to RocksDB and to the changelog once a commit.
        return cached ? store.withCachingEnabled() : store;
    }

    private static Properties settings(Map<String, String> options, boolean tuned) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, options.get("--group"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, options.get("--broker"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, options.get("--state-dir"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        if (tuned) {
            boolean latency = "latency".equals(options.get("--tuned-for"));
            settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256 << 20);
            settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, latency ? 10 : 1_000);
            settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
            settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
            settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 8 << 20);
            settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), latency ? 0 : 20);
            settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
            settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 256 << 20);
        }
        return settings;
    }
}
