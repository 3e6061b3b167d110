// Before anything is drawn: the colours and the language that were chosen here before.
"use strict";
{
  const root = document.documentElement;
  let theme = null;
  let language = null;
  try {
    theme = localStorage.getItem("theme");
    language = localStorage.getItem("language");
  } catch {
    // A browser that keeps nothing: the defaults.
  }
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  const preferred = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
  root.lang = language === "zh" || language === "en" ? language : preferred;
}
