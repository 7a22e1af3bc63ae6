package bench;

/** A payment with a card that tells at once what it turned out to be. */
record Transaction(
    String id, double at, String card, String merchant, double amount, double lat, double lon, String country, int label) {}
