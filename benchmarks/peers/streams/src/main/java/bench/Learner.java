package bench;

/** River's StandardScaler and LogisticRegression with their defaults: the same additions in the same order. */
public final class Learner {
    private static final double RATE = 0.01;

    public long count;
    public double[] means = new double[Features.COUNT];
    public double[] variances = new double[Features.COUNT];
    public double[] weights = new double[Features.COUNT];
    public double intercept;

    /** Return the probability of one. */
    double predict(double[] x) {
        double z = raw(x);
        if (z < -30) {
            return 0;
        }
        return z > 30 ? 1 : 1 / (1 + Math.exp(-z));
    }

    /** Scale by what is known with this event, then take one step down the gradient of the logarithmic loss. */
    void learn(double[] x, int label) {
        count++;
        for (int i = 0; i < x.length; i++) {
            double before = means[i];
            means[i] += (x[i] - before) / count;
            variances[i] += ((x[i] - before) * (x[i] - means[i]) - variances[i]) / count;
        }
        double truth = label == 0 ? -1 : 1;
        double z = raw(x) * truth;
        double gradient;
        if (z > 18) {
            gradient = Math.exp(-z) * -truth;
        } else {
            gradient = z < -18 ? -truth : -truth / (Math.exp(z) + 1);
        }
        intercept -= RATE * gradient;
        for (int i = 0; i < x.length; i++) {
            weights[i] -= RATE * (scaled(x, i) * gradient);
        }
    }

    private double raw(double[] x) {
        double z = 0;
        for (int i = 0; i < x.length; i++) {
            z += weights[i] * scaled(x, i);
        }
        return z + intercept;
    }

    private double scaled(double[] x, int i) {
        return variances[i] == 0 ? 0 : (x[i] - means[i]) / Math.sqrt(variances[i]);
    }
}
