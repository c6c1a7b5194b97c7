import java.nio.file.*;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.*;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/** Runs the statements of a file; rows of a SELECT go to standard output as JSON lines. */
public class FlinkJob {
    static String text(Object value) {
        if (value == null) return "null";
        if (value instanceof Double d) return Double.isFinite(d) ? d.toString() : "null";
        if (value instanceof Number || value instanceof Boolean) return value.toString();
        StringBuilder out = new StringBuilder("\"");
        for (char c : value.toString().toCharArray()) {
            if (c == '"' || c == '\\' || c < 32) out.append(String.format("\\u%04x", (int) c)); else out.append(c);
        }
        return out.append('"').toString();
    }

    public static void main(String[] arguments) throws Exception {
        Configuration settings = new Configuration();
        settings.setString("table.local-time-zone", "UTC");
        settings.setString("parallelism.default", arguments.length > 2 ? arguments[2] : "1");
        settings.setString("taskmanager.memory.managed.size", "256m");
        EnvironmentSettings.Builder builder = EnvironmentSettings.newInstance().withConfiguration(settings);
        TableEnvironment environment =
            TableEnvironment.create((arguments[1].equals("batch") ? builder.inBatchMode() : builder.inStreamingMode()).build());
        StringBuilder answer = new StringBuilder();
        for (String statement : Files.readString(Path.of(arguments[0])).split(";\n")) {
            if (statement.isBlank()) continue;
            TableResult result;
            try {
                result = environment.executeSql(statement);
            } catch (Throwable error) {
                System.err.println("statement: " + statement.substring(0, Math.min(400, statement.length())));
                for (Throwable e = error; e != null; e = e.getCause()) System.err.println("error: " + e);
                System.exit(1);
                return;
            }
            if (!statement.stripLeading().toUpperCase().startsWith("SELECT")) { result.await(); continue; }
            var names = result.getResolvedSchema().getColumnNames();
            try (CloseableIterator<Row> rows = result.collect()) {
                while (rows.hasNext()) {
                    Row row = rows.next();
                    StringBuilder line = new StringBuilder("{");
                    for (int i = 0; i < names.size(); i++) {
                        if (i > 0) line.append(',');
                        line.append(text(names.get(i))).append(':').append(text(row.getField(i)));
                    }
                    System.out.println(line.append('}'));
                }
            }
        }
        System.out.flush();
        System.exit(0);
    }
}
