/*
 * Adds the result of wsiseg to the open image: NAME.wsiseg.geojson or NAME.geojson, in the folder `wsiseg` of the project
 * or beside the image. Written by `wsiseg qupath install`.
 */
import qupath.fx.dialogs.Dialogs
import qupath.lib.io.PathIO
import qupath.lib.scripting.QP

def imageData = QP.getCurrentImageData()
if (imageData == null) {
    Dialogs.showErrorMessage('wsiseg', 'Open an image first.')
    return
}
def uri = imageData.getServer().getURIs().find { it.getScheme() == 'file' }
if (uri == null) {
    Dialogs.showErrorMessage('wsiseg', 'wsiseg reads files, and this image is none.')
    return
}
def slide = new File(uri.getPath())
def stem = slide.getName().replaceFirst(/\.[^.]+$/, '')
def folders = [slide.getParentFile()]
if (QP.getProject() != null) folders.add(0, new File(QP.buildFilePath(QP.PROJECT_BASE_DIR, 'wsiseg')))
def places = folders.collectMany { [new File(it, stem + '.wsiseg.geojson'), new File(it, stem + '.geojson')] }
def result = places.find { it.exists() }
if (result == null) {
    Dialogs.showErrorMessage('wsiseg', 'There is no result. These places were looked at:\n' + places.join('\n'))
    return
}
def objects = PathIO.readObjects(result)
// Ids stay the same from one prediction to the next: what is there already is replaced.
def hierarchy = imageData.getHierarchy()
def ids = objects.collect { it.getID() } as Set
hierarchy.removeObjects(hierarchy.getAllObjects(false).findAll { ids.contains(it.getID()) }, true)
hierarchy.addObjects(objects)
println result.getPath() + ': ' + objects.size() + ' objects'
Dialogs.showInfoNotification('wsiseg', objects.size() + ' objects of ' + result.getName() + '.')
