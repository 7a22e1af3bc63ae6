package bench;

import com.fasterxml.jackson.annotation.JsonProperty;

/** What is published for each payment. */
record Prediction(
    String id, double at, String card, double score, @JsonProperty("static") double staticScore, double online, String model, String version) {}
