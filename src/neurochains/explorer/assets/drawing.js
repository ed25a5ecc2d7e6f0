/* Figures: each is drawn once for each change of its store, and not before there is something to draw.

What a click on it or a box around some of it hits goes to two more stores. A figure that is slow to draw waits until the
panel beside it is filled, since a browser does one after the other. */
(() => {
  const turns = {};
  const forget = {};
  const pause = (time) => new Promise((done) => setTimeout(done, time));
  const painted = () => Promise.race([pause(100), new Promise((done) => requestAnimationFrame(() => setTimeout(done)))]);

  /* Plotly is fetched with the page and run after it: a page that is still loading costs a browser time of its own. */
  const ready = new Promise((done) => window.addEventListener("load", () => {
    const script = document.createElement("script");
    script.src = document.querySelector("link[rel=preload][as=script]").href;
    script.onload = done;
    document.head.append(script);
  }));
  const filled = async () => {
    const end = performance.now() + 1500;
    await pause(0);
    while (performance.now() < end && document.querySelector(".desk > aside .panel [data-dash-is-loading=true]")) await pause(20);
    await painted();
  };

  const hit = (plot, { curveNumber, pointNumber, x, y, customdata }) => {
    const known = plot.data[curveNumber]?.customdata;
    return { curveNumber, pointNumber, x, y, customdata: customdata ?? known?.[pointNumber] };
  };
  const hits = (plot, event) => ({ points: (event?.points || []).map((point) => hit(plot, point)), at: Date.now() });

  const watched = (plot, name) => {
    const tell = (store, data) => window.dash_clientside.set_props(name + store, { data });
    plot.on("plotly_click", (event) => tell("-click", hits(plot, event)));
    plot.on("plotly_selected", (event) => tell("-picked", event ? hits(plot, event) : null));
    plot.on("plotly_deselect", () => tell("-picked", null));
    const fit = () => {
      const { width, height } = plot._fullLayout;
      const other = Math.abs(plot.clientWidth - width) > 1 || Math.abs(plot.clientHeight - height) > 1;
      if (plot.offsetParent && other) window.Plotly.Plots.resize(plot);
    };
    const observer = new ResizeObserver(fit);
    observer.observe(plot);
    return () => {
      observer.disconnect();
      window.Plotly.purge(plot);
    };
  };

  /* In space Plotly takes sizes of points in pixels of the canvas; those of our figures are meant for two in each way. */
  const sized = ({ type, marker }, by) => {
    if (type !== "scatter3d" || !marker?.size) return;
    if (typeof marker.size === "number") marker.size *= by;
    else marker.sizeref = 1 / by;
  };

  const drawn = async (figure, name) => {
    const box = document.getElementById(name);
    const plot = box?.firstElementChild;
    if (!plot || !figure || (!plot.data && !figure.data.length)) return window.dash_clientside.no_update;
    const turn = (turns[name] = (turns[name] || 0) + 1);
    box.setAttribute("aria-busy", "true");
    try {
      await ready;
      if (box.dataset.slow) await filled();
      if (turns[name] !== turn) return window.dash_clientside.no_update;
      const { data, layout } = structuredClone(figure);
      const first = !plot.data;
      const ratio = Math.min(2, Math.max(1, window.devicePixelRatio));
      const config = { plotGlPixelRatio: ratio, ...JSON.parse(box.dataset.config) };
      data.forEach((trace) => sized(trace, ratio / 2));
      await window.Plotly.react(plot, data, layout, config);
      if (first) {
        forget[name]?.(); /* of a panel that was filled anew, Plotly keeps what it drew until told */
        forget[name] = watched(plot, name);
      }
    } finally {
      if (turns[name] === turn) box.removeAttribute("aria-busy");
    }
    return turn;
  };

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.explorer = Object.assign(window.dash_clientside.explorer || {}, { drawn });
})();
