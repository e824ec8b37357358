package qupath.lib.scripting;

import java.io.File;
import java.net.URI;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.UUID;

/** Stand-in for those parts of QuPath 0.5 to 0.7 that the scripts use; system properties say what is open. */
public class QP {
    public static final String PROJECT_BASE_DIR = "{%PROJECT}";
    private static final ImageData IMAGE = new ImageData();

    public static ImageData getCurrentImageData() {
        return System.getProperty("slide") == null ? null : IMAGE;
    }

    public static Project getProject() {
        return System.getProperty("project") == null ? null : new Project();
    }

    public static String buildFilePath(String... parts) {
        return String.join(File.separator, parts).replace(PROJECT_BASE_DIR, System.getProperty("project"));
    }

    private static Collection<URI> uris() {
        String slide = System.getProperty("slide");
        return List.of(slide.contains("://") ? URI.create(slide) : new File(slide).toURI());
    }

    public static class PathObject {
        private final UUID id;

        public PathObject(UUID id) {
            this.id = id;
        }

        public UUID getID() {
            return id;
        }
    }

    public static class Hierarchy {
        private final Set<PathObject> objects = new LinkedHashSet<>();

        public boolean addObjects(Collection<? extends PathObject> more) {
            objects.addAll(more);
            System.out.println("HOLDS " + objects.size());
            return true;
        }

        public void removeObjects(Collection<? extends PathObject> gone, boolean keepChildren) {
            objects.removeAll(gone);
        }

        public Collection<PathObject> getAllObjects(boolean includeRoot) {
            return new ArrayList<>(objects);
        }

        public Collection<PathObject> getAnnotationObjects() {
            return List.of(new PathObject(UUID.randomUUID()), new PathObject(UUID.randomUUID()));
        }
    }

    public static class PixelCalibration {
        private final String size;

        PixelCalibration(String size) {
            this.size = size;
        }

        public boolean hasPixelSizeMicrons() {
            return size != null;
        }

        public Number getAveragedPixelSizeMicrons() {
            return Double.parseDouble(size);
        }
    }

    public static class Metadata {
        public PixelCalibration getPixelCalibration() {
            return new PixelCalibration(System.getProperty("stated"));
        }
    }

    public static class Server {
        public Collection<URI> getURIs() {
            return uris();
        }

        public Metadata getOriginalMetadata() {
            return new Metadata();
        }

        public PixelCalibration getPixelCalibration() {
            return new PixelCalibration(System.getProperty("set", System.getProperty("stated")));
        }
    }

    public static class ImageData {
        private final Hierarchy hierarchy = new Hierarchy();

        public Server getServer() {
            return new Server();
        }

        public Hierarchy getHierarchy() {
            return hierarchy;
        }
    }

    public static class Entry {
        public Hierarchy readHierarchy() {
            return new Hierarchy();
        }

        public Server getServerBuilder() {
            return new Server();
        }

        public String getImageName() {
            return "image";
        }
    }

    public static class Project {
        public List<Entry> getImageList() {
            return List.of(new Entry());
        }
    }
}
