import java.nio.file.*;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.*;

/** Runs the statements of a script in a Flink of its own, as `sql-client.sh -f` does: each is awaited. */
public class FlinkJob {
    public static void main(String[] arguments) throws Exception {
        Configuration settings = new Configuration();
        settings.setString("parallelism.default", "1");
        settings.setString("taskmanager.memory.managed.size", "256m");
        TableEnvironment environment = null;
        for (String statement : Files.readString(Path.of(arguments[0])).split(";\n")) {
            String text = statement.replaceAll("(?m)^--.*\n", "").strip();
            if (text.isEmpty()) continue;
            var setting = java.util.regex.Pattern.compile("SET '([^']*)' = '([^']*)'").matcher(text);
            try {
                if (setting.matches()) {
                    settings.setString(setting.group(1), setting.group(2));
                    if (environment != null) environment.getConfig().set(setting.group(1), setting.group(2));
                    continue;
                }
                if (environment == null) {
                    environment = TableEnvironment.create(EnvironmentSettings.newInstance().withConfiguration(settings).build());
                }
                long start = System.nanoTime();
                environment.executeSql(text).await();
                System.out.printf("%.1f s: %s%n", (System.nanoTime() - start) / 1e9, text.substring(0, Math.min(60, text.length())));
            } catch (Throwable error) {
                System.err.println("statement: " + text.substring(0, Math.min(400, text.length())));
                for (Throwable e = error; e != null; e = e.getCause()) System.err.println("error: " + e);
                System.exit(1);
            }
        }
        System.exit(0);
    }
}
