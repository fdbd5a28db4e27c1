// Runs before the first paint, so that a chosen theme does not flash the other one. It is no module: modules run later.
(function () {
  try {
    const chosen = JSON.parse(localStorage.getItem("kinora.prefs") || "{}");
    if (chosen.theme === "light" || chosen.theme === "dark") document.documentElement.dataset.theme = chosen.theme;
  } catch {
    // Storage can be switched off; the system's theme is used then.
  }
})();
