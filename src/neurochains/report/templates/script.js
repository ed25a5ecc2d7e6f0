"use strict";
(() => {
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details")) one.open = true;
  });
  const table = document.getElementById("table-filters");
  const input = document.getElementById("find-filter");
  const said = document.getElementById("found-filters");
  if (!table) return; // a chain of patches alone
  input.closest(".find").hidden = false;
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    let found = 0;
    for (const body of table.tBodies) {
      let any = false;
      for (const row of body.rows) {
        if (row.className === "group") continue;
        const fits = row.textContent.toLowerCase().includes(wanted);
        row.hidden = !fits;
        any = any || fits;
        found += fits ? 1 : 0;
      }
      body.hidden = !any;
    }
    said.value = wanted ? `${found} found` : "";
  });
})();
