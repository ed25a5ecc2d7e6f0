/* What the menu "Save" does in the browser: figures as pictures, tables as CSV, the open panel into the offline page. */
(() => {
  const shown = (element) => element.offsetParent !== null && element.getClientRects().length > 0;
  const plots = (inside) => [...inside.querySelectorAll(".js-plotly-plot")].filter(shown).filter((plot) => (plot.data || []).length);
  const named = (plot) => (plot.closest("[id]") || plot).id || "figure";
  const size = (plot) => ({ width: plot.clientWidth, height: plot.clientHeight });

  const download = (parts, type, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(parts, { type }));
    link.download = name;
    document.body.appendChild(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  /* A cell that a spreadsheet would read as a formula has an apostrophe in front; numbers with a sign have none. */
  const cell = (text) => {
    const plain = /^[=+\-@\t\r]/.test(text) && !/^[+-]?[\d.,]+(e[+-]?\d+)?%?$/i.test(text) ? "'" + text : text;
    return /[",\n]/.test(plain) ? '"' + plain.replace(/"/g, '""') + '"' : plain;
  };
  const rows = (table) => [...table.rows].map((row) => [...row.cells].map((one) => cell(one.innerText.trim())).join(","));

  const figures = async (format) => {
    for (const plot of plots(document)) {
      await Plotly.downloadImage(plot, { format, filename: "neurochains-" + named(plot), scale: format === "png" ? 2 : 1, ...size(plot) });
    }
  };

  const tables = () => {
    const found = [...document.querySelectorAll(".desk > aside table")].filter(shown).map((table) => rows(table).join("\n"));
    if (found.length) download([found.join("\n\n") + "\n"], "text/csv", "tables.csv");
  };

  /* Everything that only works on a running page is left out; a figure becomes the picture that it shows. */
  const panel = async () => {
    const open = [...document.querySelectorAll(".desk > aside .panel")].find(shown);
    if (!open) return "";
    const copy = open.cloneNode(true);
    const pictures = await Promise.all(plots(open).map((plot) => Plotly.toImage(plot, { format: "svg", ...size(plot) })));
    const copies = [...copy.querySelectorAll(".js-plotly-plot")];
    const drawn = [...open.querySelectorAll(".js-plotly-plot")].map((plot) => plots(open).indexOf(plot));
    copies.forEach((plot, place) => {
      const image = document.createElement("img");
      if (drawn[place] >= 0) image.src = pictures[drawn[place]];
      image.style.cssText = "width:auto;height:auto;max-width:100%";
      plot.replaceWith(image);
    });
    copy.querySelectorAll("input, script, iframe, [class*=Input], [class*=Switch], .drop").forEach((part) => part.remove());
    copy.querySelectorAll("button[id], [data-step=off]").forEach((part) => part.remove());
    copy.querySelectorAll("button.tile").forEach((part) => {
      const image = document.createElement("img");
      image.src = part.style.backgroundImage.slice(5, -2);
      image.alt = part.title;
      if (part.style.backgroundImage) part.prepend(image);
    });
    copy.querySelectorAll("button").forEach((part) => part.replaceWith(...part.childNodes, " "));
    copy.querySelectorAll("[id], [class]").forEach((part) => { part.removeAttribute("id"); if (!part.className.includes?.("row")) part.removeAttribute("class"); });
    return "<section>" + copy.innerHTML + "</section>";
  };

  const page = async (made) => download([made.replace("<!-- the open panel -->", (await panel()).replace(/\$/g, "$$$$"))], "text/html", "view.html");

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.explorer = window.dash_clientside.explorer || {};
  window.dash_clientside.explorer.save = async (svg, png, csv, made) => {
    const asked = window.dash_clientside.callback_context.triggered.map((one) => one.prop_id.split(".")[0]);
    if (asked.includes("save-svg") && svg) await figures("svg");
    if (asked.includes("save-png") && png) await figures("png");
    if (asked.includes("save-tables") && csv) tables();
    if (asked.includes("page-made") && made) await page(made);
    return window.dash_clientside.no_update;
  };
})();
