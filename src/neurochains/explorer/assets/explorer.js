/* What runs in the browser: splitting the address into parts, completing names, noticing that the server is gone. */
window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.explorer = Object.assign(window.dash_clientside.explorer || {}, {
  complete(value, names) {
    const text = value || "";
    const token = /("[^"]*|[\p{L}\p{N}_.]+)$/u.exec(text);
    if (!token) return [];
    const start = token[0].replace(/^"/, "").toLowerCase();
    if (!start) return [];
    const head = text.slice(0, text.length - token[0].length);
    const plain = (name) => name.replace(/"/g, "").toLowerCase();
    const first = names.filter((name) => plain(name).startsWith(start));
    const found = first.concat(names.filter((name) => !plain(name).startsWith(start) && plain(name).includes(start)));
    return found.slice(0, 8).map((name) => head + name).filter((line) => line !== text);
  },

  /* Another filter was selected: nothing to do where the graph is drawn anew anyway, with what is selected on it. */
  async later(text, graph) {
    const drawn = window.neurochainsDrawn === graph;
    window.neurochainsDrawn = graph;
    if (!drawn) return window.dash_clientside.no_update;
    await new Promise((done) => setTimeout(done, 250));
    return text;
  },

  full(clicks) {
    const box = document.getElementById("graph-box");
    if (!clicks || !box) return window.dash_clientside.no_update;
    if (document.fullscreenElement) document.exitFullscreen();
    else box.requestFullscreen();
    return window.dash_clientside.no_update;
  },

  async alive(ticks, since) {
    const keep = window.dash_clientside.no_update;
    try {
      const response = await fetch("alive", { cache: "no-store", credentials: "same-origin" });
      if (response.status === 403) return ["The explorer was started again with another token. Open the new address that it printed.", keep];
      const said = await response.json();
      if (since && since !== said.since) { window.location.reload(); return [keep, keep]; }
      return [said.trouble || "", said.since];
    } catch (error) {
      return ["The explorer does not answer. Once it is started again on this address, the page goes on by itself.", keep];
    }
  },
});
document.addEventListener("fullscreenchange", () => window.dispatchEvent(new Event("resize")));
