package qupath.lib.io;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import qupath.lib.scripting.QP;

/** Stand-in: reads the ids of objects, and writes them. */
public class PathIO {
    public enum GeoJsonExportOptions { PRETTY_JSON, EXCLUDE_MEASUREMENTS, FEATURE_COLLECTION }

    public static List<QP.PathObject> readObjects(File file) throws IOException {
        List<QP.PathObject> found = new ArrayList<>();
        Matcher match = Pattern.compile("\"id\": ?\"([0-9a-f-]{36})\"").matcher(Files.readString(file.toPath()));
        while (match.find())
            found.add(new QP.PathObject(UUID.fromString(match.group(1))));
        return found;
    }

    public static void exportObjectsAsGeoJSON(
            File file, Collection<? extends QP.PathObject> objects, GeoJsonExportOptions... options) throws IOException {
        Files.writeString(file.toPath(), options[0] + " " + objects.size());
    }
}
