/*
 * Sends the open image to wsiseg, which works in the background, and adds the objects that it finds.
 * Written by `wsiseg qupath install`; change the model and the options as you like.
 */
import javafx.application.Platform
import qupath.fx.dialogs.Dialogs
import qupath.lib.io.PathIO
import qupath.lib.scripting.QP

def model = ''       // name or folder of a model; empty: the bundled models, which find glomeruli
def options = []     // further options of `wsiseg predict`, such as ['--exclude-artefacts']

def command = @COMMAND@
def imageData = QP.getCurrentImageData()
if (imageData == null) {
    Dialogs.showErrorMessage('wsiseg', 'Open an image first.')
    return
}
def server = imageData.getServer()
def uri = server.getURIs().find { it.getScheme() == 'file' }
if (uri == null) {
    Dialogs.showErrorMessage('wsiseg', 'wsiseg reads files, and this image is none.')
    return
}
def slide = new File(uri.getPath())
def stem = slide.getName().replaceFirst(/\.[^.]+$/, '')
def folder = QP.getProject() == null ? slide.getParentFile() : new File(QP.buildFilePath(QP.PROJECT_BASE_DIR, 'wsiseg'))
folder.mkdirs()
def result = new File(folder, stem + '.wsiseg.geojson')
def log = File.createTempFile('wsiseg', '.log')

def words = command + ['predict', slide.getPath(), '--out', result.getPath(), '--overwrite', '--quiet']
words += ['--log-json', log.getPath()]
if (model) words += ['--model', model]
// The file may not state its resolution, and somebody may have told QuPath.
def stated = server.getOriginalMetadata().getPixelCalibration().hasPixelSizeMicrons()
def calibration = server.getPixelCalibration()
if (!stated && calibration.hasPixelSizeMicrons())
    words += ['--mpp', calibration.getAveragedPixelSizeMicrons().toString()]
words += options

println words.join(' ')
def process = new ProcessBuilder(words.collect { it.toString() }).start()
def said = new StringBuffer(), errors = new StringBuffer()
process.consumeProcessOutput(said, errors)
Dialogs.showInfoNotification('wsiseg', 'Looking for objects on ' + slide.getName() + '.')

def work = {
    def told = 0
    while (process.isAlive()) {
        Thread.sleep(500)
        def last = log.readLines().findAll { it.contains('"progress"') }
        if (last.isEmpty()) continue
        def counts = (last[-1] =~ /"done": (\d+), "all": (\d+)/)
        if (!counts.find()) continue
        def percent = (int) (100 * counts.group(1).toLong() / Math.max(1, counts.group(2).toLong()))
        if (percent >= told + 25) {
            told = percent - percent % 25
            def text = slide.getName() + ': ' + percent + ' %'
            Platform.runLater { Dialogs.showInfoNotification('wsiseg', text) }
        }
    }
    process.waitForProcessOutput()
    log.delete()
    println said
    if (process.exitValue() != 0) {
        def reason = errors.toString().readLines().findAll { it.startsWith('wsiseg: ') }
        def text = reason.isEmpty() ? errors.toString() : reason[-1]
        Platform.runLater { Dialogs.showErrorMessage('wsiseg', text) }
        return
    }
    def objects = PathIO.readObjects(result)
    Platform.runLater {
        // Ids stay the same from one prediction to the next: what is there already is replaced.
        def hierarchy = imageData.getHierarchy()
        def ids = objects.collect { it.getID() } as Set
        hierarchy.removeObjects(hierarchy.getAllObjects(false).findAll { ids.contains(it.getID()) }, true)
        hierarchy.addObjects(objects)
        Dialogs.showInfoNotification('wsiseg', objects.size() + ' objects on ' + slide.getName() + '.')
    }
}
def thread = new Thread(work as Runnable, 'wsiseg')
thread.setDaemon(true)
thread.start()
