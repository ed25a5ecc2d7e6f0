/* The view in the address, read and changed in the browser: a click asks the server only for what it shows.

The rules (defaults, ranges, choices) come from `view.py`, which reads every address again on the server and leaves out
what cannot be; nothing here has to be trusted. */
(() => {
  window.dash_clientside = window.dash_clientside || {};
  const explorer = (window.dash_clientside.explorer = window.dash_clientside.explorer || {});
  const keep = () => window.dash_clientside.no_update;
  const context = () => window.dash_clientside.callback_context;
  let known = null;
  const rules = () => (known = known || JSON.parse(document.getElementById("desk").dataset.rules));

  const single = (text, rule) => {
    if (rule.choices) return rule.choices.includes(text) ? text : rule.usual;
    if (!rule.range) return text;
    const value = Math.round(Number(text) * 1e4) / 1e4;
    return text.trim() && value >= rule.range[0] && value <= rule.range[1] ? value : rule.usual;
  };

  const read = (search) => {
    const given = new URLSearchParams(search || "");
    const view = {};
    for (const [name, rule] of Object.entries(rules())) {
      const texts = given.getAll(name);
      view[name] = Array.isArray(rule.usual) ? [...new Set(texts)] : texts.length ? single(texts[0], rule) : rule.usual;
    }
    return view;
  };

  const written = (view) => {
    const kept = new URLSearchParams();
    for (const [name, rule] of Object.entries(rules())) {
      const values = Array.isArray(rule.usual) ? view[name] : view[name] === rule.usual ? [] : [view[name]];
      for (const value of values) kept.append(name, value);
    }
    const text = kept.toString();
    return text ? "?" + text : "";
  };

  /* The address after a change; "no update" where it says the same. */
  const changed = (search, changes) => {
    const before = read(search);
    const after = written({ ...before, ...changes });
    return after === written(before) ? keep() : after;
  };

  const QUERY = ["expression", "target", "criterion", "layers", "normalise"];
  const only = (view, names) => Object.fromEntries(names.map((name) => [name, view[name]]));

  /* What a control shows of an entry. */
  const SHOWN = {
    relu: (value) => value === "on",
    criterion: (value) => value || null,
    image: (value) => (value === "upload" ? keep() : value.split(".")[0]),
  };
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
  let before = null;

  /* The parts of the address whose panel is open, and what the controls show: both only where they changed. */
  const split = (search, wanted, ...old) => {
    const given = new URLSearchParams(search || "");
    const view = read(search);
    const last = before || read("");
    before = view;
    const parts = Object.values(wanted.parts).map((part, place) => {
      if (part.panel && part.panel !== view.panel) return keep();
      const kept = new URLSearchParams();
      const follows = part.fields.includes("chains") && view.chains.some((one) => wanted.followers.includes(one));
      const fields = follows && !part.fields.includes("image") ? [...part.fields, "image"] : part.fields;
      for (const name of fields) for (const value of given.getAll(name)) kept.append(name, value);
      const text = "?" + kept.toString();
      return text === old[place] ? keep() : text;
    });
    const filled = wanted.filled.map((name) => {
      if (same(view[name], last[name])) return keep();
      return SHOWN[name] ? SHOWN[name](view[name]) : view[name];
    });
    const aside = document.querySelector(".desk > aside");
    if (aside && (view.panel !== last.panel || view.unit !== last.unit)) aside.scrollTop = 0;
    return [...parts, ...filled];
  };

  /* What buttons all over the page do alike: go to a filter, open a kernel, choose an image, switch something off. */
  const STEPS = {
    go: (view, what) => ({ unit: what, cell: "", panel: "filter" }),
    kernel: (view, what) => ({ kernel: what, panel: "kernel" }),
    image: (view, what) => ({ image: what, cell: "" }),
    off: (view, what) => ({ off: view.off.includes(what) ? view.off.filter((one) => one !== what) : [...view.off, what] }),
    earlier: (view, what) => only(read(what), QUERY),
  };

  document.addEventListener("click", (event) => {
    const pressed = event.target.closest?.("[data-step]");
    if (!pressed || !STEPS[pressed.dataset.step]) return;
    const search = window.location.search;
    const wanted = changed(search, STEPS[pressed.dataset.step](read(search), pressed.dataset.what));
    if (wanted !== keep()) window.dash_clientside.set_props("url", { search: wanted });
  });

  const share = (name, slider) => (slid, typed, search) => {
    const value = context().triggered_id === slider ? slid : typed;
    const fits = typeof value === "number" && value > 0 && value <= 1;
    return fits ? changed(search, { [name]: Math.round(value * 1e4) / 1e4 }) : keep();
  };

  Object.assign(explorer, {
    split,
    filters: share("filters", "filter-share"),
    kernels: share("kernels", "kernel-share"),

    run(clicks, enters, expression, target, criterion, layers, projection, normalise, search) {
      const text = (value) => (value || "").trim();
      const asked = { expression: text(expression) || "overall", target: text(target), criterion: criterion || "" };
      const wanted = changed(search, { ...asked, layers: layers || [], projection, normalise });
      return wanted === keep() ? [wanted, [clicks, enters]] : [wanted, keep()];
    },

    retool: (graph, size, width, search) => changed(search, { graph, size, width }),

    open: (panel, search) => changed(search, { panel }),
    choose_objective: (objective, search) => changed(search, { objective }),
    rectify: (checked, search) => changed(search, { relu: checked ? "on" : "off" }),
    choose_chains: (numbers, search) => changed(search, { chains: (numbers || []).slice(0, 2) }),
    undo: (clicks, search) => (clicks ? changed(search, { off: read(search).off.slice(0, -1) }) : keep()),
    restore: (clicks, search) => (clicks ? changed(search, { off: [] }) : keep()),

    cell(data, search) {
      const point = (data?.points || [])[0];
      const fits = Number.isInteger(point?.x) && Number.isInteger(point?.y);
      return fits ? changed(search, { cell: point.y + "." + point.x }) : keep();
    },

    /* The last ten queries, the newest first, each once. */
    remember(search, history) {
      const usual = Object.fromEntries(Object.entries(rules()).map(([name, rule]) => [name, rule.usual]));
      const entry = written({ ...usual, ...only(read(search), QUERY) });
      return [entry, ...(history || []).filter((old) => old !== entry)].slice(0, 10);
    },

    earlier(history) {
      const made = (type, props) => ({ namespace: "dash_html_components", type, props });
      const items = (history || []).map((entry) => {
        const view = read(entry);
        const said = view.expression + (view.target ? "   (" + view.target + ")" : "");
        return made("Button", { children: said, type: "button", role: "menuitem", "data-step": "earlier", "data-what": entry });
      });
      return items.length ? items : made("P", { children: "No query yet", className: "hint" });
    },
  });
})();
