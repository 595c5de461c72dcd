import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.mercadopago.webhook.WebhookSignatureValidator;
import com.standardwebhooks.Webhook;
import io.cloudevents.CloudEvent;
import io.cloudevents.http.HttpMessageFactory;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpHeaders;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * Asks a library for Java about a request: a line in is {"code", "request", "key"}, a line out {"accepted", "why"}. The
 * code is the name of a verifier.
 */
public final class Check {
    public static void main(String[] arguments) throws Exception {
        Gson gson = new Gson();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JsonObject answer = new JsonObject();
            try {
                ask(gson.fromJson(line, JsonObject.class));
                answer.addProperty("accepted", true);
                answer.addProperty("why", "no exception");
            } catch (Exception error) {
                answer.addProperty("accepted", false);
                answer.addProperty("why", error.toString());
            }
            System.out.println(gson.toJson(answer));
            System.out.flush();
        }
    }

    /** Returns if the library accepts, throws if it refuses. */
    private static void ask(JsonObject asked) throws Exception {
        JsonObject request = asked.getAsJsonObject("request");
        byte[] body = Base64.getDecoder().decode(request.get("body").getAsString());
        String key = asked.get("key").isJsonNull() ? null : asked.get("key").getAsString();
        Map<String, String> headers = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
        for (var header : request.getAsJsonArray("headers")) {
            JsonArray pair = header.getAsJsonArray();
            headers.put(pair.get(0).getAsString(), pair.get(1).getAsString());
        }
        switch (asked.get("code").getAsString()) {
            case "standardwebhooks" -> {
                Map<String, List<String>> lists = new TreeMap<>();
                headers.forEach((name, value) -> lists.put(name.toLowerCase(), List.of(value)));
                new Webhook(key).verify(
                    new String(body, StandardCharsets.UTF_8), HttpHeaders.of(lists, (name, value) -> true));
            }
            case "cloudevents" -> {
                CloudEvent event = HttpMessageFactory.createReader(headers, body).toEvent();
                if (event.getSource() == null || event.getData() == null) {
                    throw new IllegalStateException("without source or data");
                }
            }
            case "mercadopago" -> {
                String id = null;
                for (String pair : URI.create(request.get("url").getAsString()).getRawQuery().split("&")) {
                    if (pair.startsWith("data.id=")) {
                        id = pair.substring("data.id=".length());
                    }
                }
                WebhookSignatureValidator.validate(headers.get("x-signature"), headers.get("x-request-id"), id, key);
            }
            default -> throw new IllegalArgumentException("no verifier of this name");
        }
    }
}
