/** The names of our commands, for menus, palettes and other extensions. */
export const CommandIDs = {
  show: 'kernel-provisioner:show-environment',
  add: 'kernel-provisioner:add-package',
  accelerator: 'kernel-provisioner:choose-accelerator',
  restart: 'kernel-provisioner:restart-to-apply'
};
