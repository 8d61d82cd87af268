// Every word of the page, English and German side by side.

const LANGUAGE = "resight-language";
export const LANGUAGES = [["en", "English"], ["de", "Deutsch"]];

/** @type {Record<string, [string, string]>} */
export const STRINGS = {
  "nav.label": ["Views", "Ansichten"],
  "nav.home": ["resight, start page", "resight, Startseite"],
  "nav.skip": ["Skip to content", "Zum Inhalt"],
  "nav.search": ["Search", "Suche"],
  "nav.photos": ["Photos", "Fotos"],
  "nav.duplicates": ["Duplicates", "Duplikate"],
  "nav.neighbours": ["Neighbours", "Nachbarn"],
  "nav.jobs": ["Jobs", "Aufträge"],
  "nav.collection": ["Collection", "Sammlung"],

  "close": ["Close", "Schließen"],
  "cancel": ["Cancel", "Abbrechen"],
  "settings": ["Settings", "Einstellungen"],
  "settings.theme": ["Appearance", "Darstellung"],
  "settings.theme.system": ["System", "System"],
  "settings.theme.light": ["Light", "Hell"],
  "settings.theme.dark": ["Dark", "Dunkel"],
  "settings.language": ["Language", "Sprache"],
  "settings.private": ["This page asks no other server and sets no cookies.", "Diese Seite fragt keinen anderen Server und setzt keine Cookies."],
  "settings.api": ["Description of the HTTP API", "Beschreibung der HTTP-Schnittstelle"],
  "key.title": ["This server asks for a key", "Dieser Server verlangt einen Schlüssel"],
  "key.label": ["Key", "Schlüssel"],
  "key.note": ["The key is kept until this tab is closed.", "Der Schlüssel bleibt gespeichert, bis dieser Tab geschlossen wird."],
  "key.use": ["Use the key", "Schlüssel verwenden"],
  "key.rejected": ["The server does not accept this key.", "Der Server nimmt diesen Schlüssel nicht an."],
  "key.forget": ["Forget the key", "Schlüssel vergessen"],

  "state.loading": ["Loading …", "Wird geladen …"],
  "state.again": ["Try again", "Erneut versuchen"],
  "state.none": ["No collection yet", "Noch keine Sammlung"],
  "state.none.text": ["The server holds no collection. Start it with the name of one: resight serve photos.resight", "Der Server hat keine Sammlung. Starten Sie ihn mit dem Namen einer Sammlung: resight serve photos.resight"],
  "error.page": ["The page failed", "Die Seite hat einen Fehler"],
  "error.offline": ["No connection", "Keine Verbindung"],
  "error.offline.text": ["The server cannot be reached. What is shown may be out of date.", "Der Server ist nicht erreichbar. Das Gezeigte kann veraltet sein."],
  "error.busy": ["The server is busy", "Der Server ist ausgelastet"],
  "error.busy.text": ["The next try follows in {seconds} s.", "Der nächste Versuch folgt in {seconds} s."],

  "start.title": ["Find every photo of the same thing", "Jedes Foto derselben Sache finden"],
  "start.text": ["{photos} photos in {name} are searched. Whatever shows the same thing is found, and proven.", "{photos} Fotos in {name} werden durchsucht. Was dieselbe Sache zeigt, wird gefunden und bewiesen."],
  "start.strip": ["Or start with a photo of the collection", "Oder mit einem Foto der Sammlung beginnen"],
  "drop.title": ["Drop a photo here", "Ein Foto hier ablegen"],
  "drop.text": ["or paste one, anywhere on this page", "oder irgendwo auf dieser Seite einfügen"],
  "drop.choose": ["Choose a photo", "Foto auswählen"],
  "drop.camera": ["Take a photo", "Foto aufnehmen"],
  "drop.no-photo": ["This file is not a photo.", "Diese Datei ist kein Foto."],
  "camera.take": ["Take the photo", "Auslösen"],
  "camera.wait": ["Waiting for the camera …", "Warten auf die Kamera …"],
  "camera.none": ["The camera cannot be used: {reason}", "Die Kamera ist nicht verfügbar: {reason}"],

  "ask.label": ["Query", "Anfrage"],
  "ask.other": ["Another photo", "Anderes Foto"],
  "ask.forget": ["Start anew", "Neu beginnen"],
  "ask.uploaded": ["Your photo", "Ihr Foto"],
  "ask.neighbours": ["Neighbours", "Nachbarn"],
  "ask.gone": ["The uploaded photo has expired", "Das hochgeladene Foto ist abgelaufen"],
  "ask.gone.text": ["The server keeps uploads for a short time only. Drop the photo again.", "Der Server bewahrt hochgeladene Fotos nur kurz auf. Legen Sie das Foto erneut ab."],
  "box.role": ["box", "Rahmen"],
  "box.place": ["Box {n}: left {left}, top {top}, {width} by {height} pixels", "Rahmen {n}: links {left}, oben {top}, {width} mal {height} Pixel"],
  "box.removed": ["Box removed", "Rahmen entfernt"],
  "box.hint": ["Draw a box around the thing you look for. Arrow keys move a box, with Shift they resize it, Delete removes it.", "Ziehen Sie einen Rahmen um das Gesuchte. Pfeiltasten verschieben ihn, mit Umschalt ändern sie die Größe, Entf löscht ihn."],
  "box.hint.touch": ["Draw a box around the thing you look for, then move it or pull its corners.", "Zeichnen Sie einen Rahmen um das Gesuchte; verschieben Sie ihn oder ziehen Sie an den Ecken."],
  "box.draw": ["Draw", "Zeichnen"],
  "box.add": ["Add a box", "Rahmen"],
  "box.clear": ["Whole photo", "Ganzes Foto"],

  "method.title": ["Method", "Verfahren"],
  "method.recipe": ["Recipe", "Rezept"],
  "method.automatic": ["automatic", "automatisch"],
  "filter.title": ["Filters", "Filter"],
  "filter.folder": ["Folder", "Ordner"],
  "filter.any": ["Any", "Beliebig"],
  "filter.from": ["Taken from", "Aufgenommen ab"],
  "filter.to": ["and before", "und vor"],
  "filter.tag": ["Tag", "Schlagwort"],
  "filter.size": ["Longer side", "Längere Seite"],
  "filter.min_side": ["At least (pixels)", "Mindestens (Pixel)"],
  "filter.max_side": ["At most (pixels)", "Höchstens (Pixel)"],
  "filter.clear": ["Clear the filters", "Filter entfernen"],
  "filter.none": ["This collection has nothing to filter by.", "In dieser Sammlung gibt es nichts zu filtern."],
  "filter.years": ["Years", "Jahre"],
  "filter.undated": ["No date", "Ohne Datum"],

  "search.running": ["Searching …", "Suche läuft …"],
  "search.checking": ["Checking the candidates …", "Kandidaten werden geprüft …"],
  "search.cancelled": ["Search cancelled", "Suche abgebrochen"],
  "search.unsure": ["No confident match", "Kein sicherer Treffer"],
  "search.nothing": ["Nothing found", "Nichts gefunden"],
  "search.only": ["Matches only", "Nur Treffer"],
  "search.copy": ["Copy the address of this search", "Adresse dieser Suche kopieren"],
  "search.copied": ["Address copied", "Adresse kopiert"],
  "search.csv": ["Download the results as CSV", "Ergebnisse als CSV herunterladen"],
  "search.more": ["More results", "Weitere Ergebnisse"],
  "search.took": ["{recipe}, {ms} ms.", "{recipe}, {ms} ms."],
  "match.proven": ["Match", "Treffer"],
  "match.possible": ["Possible", "Möglich"],
  "match.none": ["No match", "Kein Treffer"],
  "match.pending": ["Not checked", "Ungeprüft"],
  "class.proven": ["Proven by geometry", "Geometrisch bewiesen"],
  "class.possible": ["Possible, look closely", "Möglich, bitte genau ansehen"],
  "class.none": ["No match", "Kein Treffer"],
  "class.pending": ["Not checked yet", "Noch nicht geprüft"],
  "matches.one": ["{n} match", "{n} Treffer"],
  "matches.other": ["{n} matches", "{n} Treffer"],
  "results.one": ["{n} similar photo", "{n} ähnliches Foto"],
  "results.other": ["{n} similar photos", "{n} ähnliche Fotos"],
  "inliers.one": ["{n} inlier", "{n} Inlier"],
  "inliers.other": ["{n} inliers", "{n} Inlier"],
  "result.score": ["score {score}", "Wert {score}"],
  "result.open": ["{name}: {match}, {facts}. Show the proof", "{name}: {match}, {facts}. Beweis zeigen"],
  "result.use": ["Search with {name}", "Mit {name} suchen"],
  "result.use.title": ["Search with this", "Hiermit suchen"],
  "photo.gone": ["The file is gone or can no longer be read.", "Die Datei fehlt oder ist nicht mehr lesbar."],

  "proof.title": ["Proof", "Beweis"],
  "proof.query": ["Query", "Anfrage"],
  "proof.before": ["Result before (p)", "Voriges Ergebnis (p)"],
  "proof.next": ["Next result (n)", "Nächstes Ergebnis (n)"],
  "proof.mode": ["View", "Ansicht"],
  "proof.pair": ["Side by side", "Nebeneinander"],
  "proof.compare": ["One on the other", "Übereinander"],
  "proof.tools": ["View of the pair", "Ansicht des Paars"],
  "proof.lines": ["Match lines", "Verbindungslinien"],
  "proof.blink": ["Blink", "Blinken"],
  "proof.object": ["Zoom to the object", "Auf das Objekt zoomen"],
  "proof.in": ["Zoom in (+)", "Vergrößern (+)"],
  "proof.out": ["Zoom out (-)", "Verkleinern (-)"],
  "proof.split": ["Query | result", "Anfrage | Ergebnis"],
  "proof.stage": ["Query and result under one zoom. Arrow keys move, plus and minus zoom, zero shows all.", "Anfrage und Ergebnis mit gemeinsamem Zoom. Pfeiltasten verschieben, Plus und Minus zoomen, Null zeigt alles."],
  "proof.no-transform": ["No transform carries one onto the other, so nothing can be laid over.", "Keine Abbildung führt das eine ins andere über; sie lassen sich nicht übereinanderlegen."],
  "proof.path": ["Way through the graph", "Weg durch den Graphen"],
  "proof.sources": ["Photos that widened the query", "Fotos, die die Anfrage erweitert haben"],
  "proof.keys": ["Keys: arrows move, + and - zoom, 0 shows all, n and p change the result, Escape closes.", "Tasten: Pfeile verschieben, + und - zoomen, 0 zeigt alles, n und p wechseln das Ergebnis, Escape schließt."],

  "photos.one": ["{n} photo", "{n} Foto"],
  "photos.other": ["{n} photos", "{n} Fotos"],
  "photos.order": ["Order", "Reihenfolge"],
  "photos.order.time": ["Newest first", "Neueste zuerst"],
  "photos.order.name": ["By name", "Nach Namen"],
  "photos.empty": ["No photos here", "Hier sind keine Fotos"],
  "photos.empty.text": ["No photo passes these filters.", "Kein Foto erfüllt diese Filter."],
  "photos.more": ["More photos", "Weitere Fotos"],
  "photos.end": ["All photos are shown.", "Alle Fotos sind gezeigt."],
  "photos.open": ["Open {name}", "{name} öffnen"],
  "photo.size": ["{width} × {height} pixels", "{width} × {height} Pixel"],
  "photo.original": ["Original", "Original"],
  "photo.remove": ["Remove from the collection", "Aus der Sammlung entfernen"],
  "photo.remove.ask": ["{name} is removed from the collection. The file itself stays.", "{name} wird aus der Sammlung entfernt. Die Datei selbst bleibt."],
  "photo.removed": ["{name} was removed", "{name} wurde entfernt"],
  "photo.next": ["Next photo", "Nächstes Foto"],
  "photo.before": ["Photo before", "Voriges Foto"],
};

const listed = () => localStorage.getItem(LANGUAGE) ?? navigator.language.slice(0, 2);

export const language = () => (LANGUAGES.some(([name]) => name === listed()) ? listed() : "en");

/** @param {string} name */
export function setLanguage(name) {
  localStorage.setItem(LANGUAGE, name);
}

/** The words of a key with values in place of {names}. @param {string} key @param {Record<string, string | number>} [values] */
export function t(key, values = {}) {
  const words = STRINGS[key];
  if (!words) throw new Error(`strings.js lacks ${key}`);
  return words[language() === "de" ? 1 : 0].replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === "number" ? number(/** @type {number} */ (values[name])) : String(values[name])));
}

/** Words for a number of things, singular or plural. @param {string} key @param {number} n */
export const count = (key, n) => t(`${key}.${n === 1 ? "one" : "other"}`, { n });

/** @param {number} value */
export const number = (value) => new Intl.NumberFormat(language()).format(value);

/** @param {number} value @param {number} [digits] */
export const decimal = (value, digits = 1) => new Intl.NumberFormat(language(), { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);

/** @param {string} iso @param {Intl.DateTimeFormatOptions} [style] */
export const date = (iso, style = { dateStyle: "long" }) => new Intl.DateTimeFormat(language(), style).format(new Date(iso));
