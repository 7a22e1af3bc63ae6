package bench;

/** The nine features of a payment, and the score of the model that does not learn. */
final class Features {
    static final int COUNT = 9;

    private static final double[] WEIGHTS = {0.45, 0.9, 0.35, 1.1, 0.0004, 0.1, 0.002, 0.01, 0.0001};
    private static final double BIAS = -4.8;
    private static final double EARTH_RADIUS_KM = 6371.0088;
    private static final double HOME_LAT = Math.toRadians(48.8566);
    private static final double HOME_LON = Math.toRadians(2.3522);
    private static final double HOME_COS = Math.cos(HOME_LAT);

    private Features() {}

    /** Return the features of a payment, which {@code past} has taken in already. */
    static double[] of(Transaction event, Past past) {
        double hour = event.at() / 3600 % 24;
        double lat = Math.toRadians(event.lat());
        double north = Math.sin((lat - HOME_LAT) / 2);
        double east = Math.sin((Math.toRadians(event.lon()) - HOME_LON) / 2);
        double arc = north * north + HOME_COS * Math.cos(lat) * east * east;
        double[] x = new double[COUNT];
        x[0] = Math.log1p(event.amount());
        x[1] = hour >= 22 || hour < 6 ? 1 : 0;
        x[2] = event.amount() % 10 == 0 ? 1 : 0;
        x[3] = event.country().equals("FR") ? 0 : 1;
        x[4] = 2 * EARTH_RADIUS_KM * Math.asin(Math.sqrt(arc));
        past.fill(x, 5);
        return x;
    }

    static double staticScore(double[] x) {
        double z = BIAS;
        for (int i = 0; i < COUNT; i++) {
            z += WEIGHTS[i] * x[i];
        }
        return 1 / (1 + Math.exp(-z));
    }
}
