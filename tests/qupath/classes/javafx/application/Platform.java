package javafx.application;

/** Stand-in: runs at once. */
public class Platform {
    public static void runLater(Runnable work) {
        work.run();
    }
}
