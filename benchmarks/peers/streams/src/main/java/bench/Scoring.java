package bench;

import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * One task, one partition: the windows of its cards and its learner are in two stores, written after each event.
 *
 * Windows are read for each event. The learner stays in memory too, and is read from its store once. How wrong it is
 * is watched by ADWIN, which is in memory alone.
 */
final class Scoring implements Processor<String, Transaction, String, Prediction> {
    static final String PASTS = "pasts";
    static final String LEARNERS = "learners";
    private static final String LEARNER = "learner";

    private ProcessorContext<String, Prediction> context;
    private KeyValueStore<String, Past> pasts;
    private KeyValueStore<String, Learner> learners;
    private Learner learner;
    private final Adwin errors = new Adwin();

    @Override
    public void init(ProcessorContext<String, Prediction> context) {
        this.context = context;
        pasts = context.getStateStore(PASTS);
        learners = context.getStateStore(LEARNERS);
    }

    @Override
    public void process(Record<String, Transaction> record) {
        Transaction event = record.value();
        Past past = pasts.get(record.key());
        if (past == null) {
            past = new Past();
        }
        past.add(event.at(), event.amount());
        pasts.put(record.key(), past);

        double[] x = Features.of(event, past);
        if (learner == null) {
            Learner known = learners.get(LEARNER);
            learner = known == null ? new Learner() : known;
        }
        double online = learner.predict(x);
        learner.learn(x, event.label());
        learners.put(LEARNER, learner);
        if (errors.update(Math.abs(event.label() - online))) {
            System.err.println("the error has changed");
        }

        Prediction prediction = new Prediction(
            event.id(), event.at(), event.card(), online, Features.staticScore(x), online, "fraud", "1");
        context.forward(record.withValue(prediction));
    }
}
