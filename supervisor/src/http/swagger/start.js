// Shows what this server says of itself. The token that a user types in stays in the page.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // Else the document's address would be told to a service on the internet.
  validatorUrl: null,
});
