package bench;

import java.util.Arrays;

/** What a card did in the last hour: a tile per minute, oldest first. Public fields, so that a store can keep it as JSON. */
public final class Past {
    private static final int SHORT = 5;
    private static final int LONG = 60;

    public long[] minutes = {};
    public int[] counts = {};
    public double[] sums = {};

    /** Take a payment in. Time goes forward, as it does in the input. */
    void add(double at, double amount) {
        long now = (long) Math.floor(at / 60);
        int end = minutes.length;
        if (end == 0 || minutes[end - 1] != now) {
            int from = 0;
            while (from < end && minutes[from] <= now - LONG) {
                from++;
            }
            // Copied with room for one more: old tiles leave at the front, the new one comes to the end.
            minutes = Arrays.copyOfRange(minutes, from, end + 1);
            counts = Arrays.copyOfRange(counts, from, end + 1);
            sums = Arrays.copyOfRange(sums, from, end + 1);
            end = minutes.length;
            minutes[end - 1] = now;
        }
        counts[end - 1]++;
        sums[end - 1] += amount;
    }

    /** Write counts and sums of five minutes and of an hour into four fields of {@code x}, from {@code at} on. */
    void fill(double[] x, int at) {
        int count = 0;
        int countShort = 0;
        double sum = 0;
        double sumShort = 0;
        long shortest = minutes[minutes.length - 1] - SHORT;
        for (int i = 0; i < minutes.length; i++) {
            count += counts[i];
            sum += sums[i];
            if (minutes[i] > shortest) {
                countShort += counts[i];
                sumShort += sums[i];
            }
        }
        x[at] = countShort;
        x[at + 1] = sumShort;
        x[at + 2] = count;
        x[at + 3] = sum;
    }
}
