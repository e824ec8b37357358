/*
 * Writes the annotations of all images of the project to its folder `annotations`, each file named like its slide, as
 * `wsiseg init PROJECT.qpproj` expects them. Save the open image first. Written by `wsiseg qupath install`.
 */
import qupath.fx.dialogs.Dialogs
import qupath.lib.io.PathIO
import qupath.lib.scripting.QP

def project = QP.getProject()
if (project == null) {
    Dialogs.showErrorMessage('wsiseg', 'Open a project first.')
    return
}
def folder = new File(QP.buildFilePath(QP.PROJECT_BASE_DIR, 'annotations'))
folder.mkdirs()
def files = 0, number = 0
for (entry in project.getImageList()) {
    def annotations = entry.readHierarchy().getAnnotationObjects()
    if (annotations.isEmpty()) continue
    def uri = entry.getServerBuilder().getURIs().find { it.getScheme() == 'file' }
    def name = uri == null ? entry.getImageName() : new File(uri.getPath()).getName()
    def file = new File(folder, name.replaceFirst(/\.[^.]+$/, '') + '.geojson')
    PathIO.exportObjectsAsGeoJSON(file, annotations, PathIO.GeoJsonExportOptions.FEATURE_COLLECTION)
    println file.getPath() + ': ' + annotations.size() + ' annotations'
    files += 1
    number += annotations.size()
}
Dialogs.showInfoNotification('wsiseg', number + ' annotations of ' + files + ' images, in ' + folder.getPath() + '.')
