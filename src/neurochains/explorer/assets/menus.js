/* Menus: a click elsewhere, on an entry, or Escape closes them; arrows lead from entry to entry. */
(() => {
  const menus = () => [...document.querySelectorAll("details.menu[open]")];
  const close = (menu) => { menu.open = false; };

  document.addEventListener("click", (event) => {
    for (const menu of menus()) if (!menu.contains(event.target) || event.target.closest("[role=menuitem]")) close(menu);
  });

  document.addEventListener("keydown", (event) => {
    const menu = event.target.closest?.("details.menu[open]");
    if (!menu) return;
    if (event.key === "Escape") { close(menu); menu.querySelector("summary").focus(); }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const entries = [...menu.querySelectorAll("[role=menuitem]")];
    const place = entries.indexOf(document.activeElement) + step;
    entries[(place + entries.length) % entries.length]?.focus();
    event.preventDefault();
  });
})();
