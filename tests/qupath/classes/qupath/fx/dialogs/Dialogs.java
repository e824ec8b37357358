package qupath.fx.dialogs;

/** Stand-in: prints what people would see. */
public class Dialogs {
    public static void showErrorMessage(String title, String message) {
        System.out.println("ERROR " + message);
    }

    public static void showInfoNotification(String title, String message) {
        System.out.println("INFO " + message);
    }
}
