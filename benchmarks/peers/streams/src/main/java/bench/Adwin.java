package bench;

import java.util.Arrays;

/**
 * ADWIN with River's defaults, and with its sums in the same order: a window that forgets what no longer fits.
 *
 * Row i holds buckets of 2^i values each, at most five and one more, the oldest first.
 */
final class Adwin {
    private static final double DELTA = 0.002;
    private static final int CLOCK = 32;
    private static final int BUCKETS = 5;
    private static final int SHORTEST = 5;
    private static final int GRACE = 10;
    private static final int ROWS = 60;

    private final double[][] totals = new double[ROWS][BUCKETS + 1];
    private final double[][] variances = new double[ROWS][BUCKETS + 1];
    private final int[] held = new int[ROWS];
    private int rows = 1;
    private double width;
    private double total;
    private double variance;
    private long ticks;
    private boolean found;

    /** Take a value; say whether the mean has changed. What has been found begins anew. */
    boolean update(double value) {
        if (found) {
            Arrays.fill(held, 0);
            rows = 1;
            width = total = variance = 0;
            ticks = 0;
        }
        insert(0, value, 0);
        width++;
        if (width > 1) {
            double away = value - total / (width - 1);
            variance += (width - 1) * away * away / width;
        }
        total += value;
        compress();
        found = changed();
        return found;
    }

    private void insert(int row, double sum, double spread) {
        totals[row][held[row]] = sum;
        variances[row][held[row]++] = spread;
    }

    private void remove(int row, int count) {
        held[row] -= count;
        System.arraycopy(totals[row], count, totals[row], 0, held[row]);
        System.arraycopy(variances[row], count, variances[row], 0, held[row]);
    }

    private void compress() {
        for (int row = 0; held[row] == BUCKETS + 1; row++) {
            rows = Math.max(rows, row + 2);
            double n = 1L << row;
            double[] sums = totals[row];
            double apart = sums[0] / n - sums[1] / n;
            double between = n * n * apart * apart / (n + n);
            insert(row + 1, sums[0] + sums[1], variances[row][0] + variances[row][1] + between);
            remove(row, 2);
        }
    }

    private boolean changed() {
        boolean any = false;
        if (++ticks % CLOCK == 0 && width > GRACE) {
            while (cut()) {
                any = true;
            }
        }
        return any;
    }

    /** Look for a place at which both sides differ; forget the oldest bucket if there is one. */
    private boolean cut() {
        double n0 = 0;
        double n1 = width;
        double u0 = 0;
        double u1 = total;
        for (int row = rows - 1; row >= 0; row--) {
            double n = 1L << row;
            for (int k = 0; k < held[row] - (row == 0 ? 1 : 0); k++) {
                n0 += n;
                n1 -= n;
                u0 += totals[row][k];
                u1 -= totals[row][k];
                if (n0 >= SHORTEST && n1 >= SHORTEST && differ(n0, n1, u0 / n0 - u1 / n1)) {
                    forget();
                    return true;
                }
            }
        }
        return false;
    }

    private boolean differ(double n0, double n1, double apart) {
        double certain = Math.log(2 * Math.log(width) / DELTA);
        double few = 1 / (n0 - SHORTEST + 1) + 1 / (n1 - SHORTEST + 1);
        double epsilon = Math.sqrt(2 * few * (variance / width) * certain) + 2.0 / 3 * certain * few;
        return Math.abs(apart) > epsilon;
    }

    private void forget() {
        int row = rows - 1;
        double n = 1L << row;
        double sum = totals[row][0];
        width -= n;
        total -= sum;
        double away = sum / n - total / width;
        variance -= variances[row][0] + n * width * away * away / (n + width);
        remove(row, 1);
        if (held[row] == 0 && rows > 1) {
            rows--;
        }
    }
}
